"""What the page of a segmentation shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitjax import figures
from vitjax.figures import overlay
from vitjax.metrics import t_interval
from vitjax.tasks.tables import short_name
from vitjax.training.page import Block, Colors, Grid, Part, Picture, Pictures, Watched, Words

if TYPE_CHECKING:
    from vitjax.tasks.segmentation import Segmentation

_TRAINED, _WATCHED, _COLORS = 8, 4, 40


class SegmentationPage:
    """The parts of the page of a segmentation.

    Args:
        task: the task.
        gathered: computes the IoU of each image of ``split``, and the index of each.
        predicted: the class of each pixel of an image of the split, by its index.
        split: the split that is shown.
        results: of that split.
    """

    def __init__(
        self,
        task: Segmentation,
        gathered: Callable[[], tuple[np.ndarray, np.ndarray]],
        predicted: Callable[[int], np.ndarray],
        split: str,
        results: Mapping[str, Any],
    ):
        self._task, self._gathered, self._predicted = task, gathered, predicted
        self._split, self._results = split, results

    def parts(self, *, slow: bool) -> list[Part]:
        """All parts; ``slow`` says whether ``gathered`` evaluates the split again."""
        return [
            Part("Worst and best images", self._extremes, slow),
            Part("Classes", self._classes),
            Part("Images as trained on", self._trained, "train" not in self._task.data.splits),
            Part("The same images over training", self._over_time, True),
        ]

    def _extremes(self) -> Iterator[Block]:
        ious, index = self._gathered()
        known = ious[~np.isnan(ious)]
        if not len(known):
            yield Words(f"No pixel of the {len(ious):,} images of {self._split} counts.")
            return
        mean, half = t_interval(known)
        yield Words(
            f"IoU of the {len(known):,} images of {self._split}: mean {mean:.1%}"
            + ("" if np.isnan(half) else f" ± {half:.1%} (95% interval over images)")
            + f", lowest {np.min(known):.1%}, median {np.median(known):.1%}. Red pixels are wrong."
        )
        if len(known) < len(ious):
            yield Words(f"Of {len(ious) - len(known):,} further images no pixel counts.")
        yield from self._legend()
        for name, chosen in self._task.extremes(ious).items():
            for place in map(int, chosen):
                yield self._image(int(index[place]), name, float(ious[place]))

    def _image(self, number: int, name: str, iou: float) -> Pictures:
        """An image with its masks."""
        data = self._task.data
        file = short_name(data.name(self._split, number))
        image, truth = data.example(self._split, number), data.truth(self._split, number)
        guess = self._predicted(number)
        wrong = np.where((guess != truth) & (truth >= 0), 1, 0)
        marked = np.array([[235, 235, 235], [200, 30, 30]], np.uint8)[wrong]
        shown = {
            "image": image,
            "truth": self._colored(truth),
            "prediction": self._colored(guess),
            "errors": marked,
        }
        return Pictures(
            [Picture(each, what, f"{what} of {file}") for what, each in shown.items()],
            f"{name}: {file}, IoU {iou:.1%}",
        )

    def _colored(self, mask: np.ndarray) -> np.ndarray:
        names = self._task.class_names
        return figures.colored(mask, len(names), self._task.colors(len(names)))

    def _legend(self) -> Iterator[Block]:
        names = self._task.class_names
        yield Colors(names[:_COLORS], self._task.colors(len(names))[:_COLORS])

    def _classes(self) -> Iterator[Block]:
        names: Sequence[str] = self._task.class_names
        declared = self._task.experiment.declarations
        each = {
            name.removesuffix("_per_class"): self._results[name]
            for name, about in declared.items()
            if about.per_class and len(about.shape) == 1 and name in self._results
        }
        if not each:
            yield Words("The run has no metrics of single classes.")
            return
        rows = zip(names, *each.values(), strict=True)
        yield Grid(("class", *each), list(rows), tuple(each))

    def _trained(self) -> Iterator[Block]:
        data, names = self._task.data, self._task.class_names
        with contextlib.closing(data.train_batches()) as batches:
            batch = next(batches)
        colors = self._task.colors(len(names))
        yield Words("The first images of the first batch as the step has them, with their masks.")
        pairs = list(zip(batch["image"], batch["label"], strict=True))[:_TRAINED]
        yield Pictures(
            [
                Picture(overlay(image, label, len(names), colors), "", "a training image, its mask")
                for image, label in pairs
            ]
        )

    def _over_time(self) -> Iterator[Block]:
        data, names = self._task.data, self._task.class_names
        numbers = range(min(_WATCHED, data.num_examples(self._split)))
        images = [data.example(self._split, number) for number in numbers]
        colors = self._task.colors(len(names))
        pictures = [
            Picture(image, file, f"image {file}")
            for image, file in zip(
                images,
                (short_name(data.name(self._split, number)) for number in numbers),
                strict=True,
            )
        ]

        def draw(variables: Any) -> list[np.ndarray]:
            masks = [self._task.mask_of(variables, image) for image in images]
            return [
                overlay(image, mask, len(names), colors)
                for image, mask in zip(images, masks, strict=True)
            ]

        yield Words("The predicted masks over the images.")
        yield Watched(pictures, [0] * len(pictures), draw)
