"""Semantic segmentation: masks of image files, and the worst and best images of a split."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax import figures
from vitjax.core.errors import ConfigError
from vitjax.data import MaskDataset
from vitjax.data.any_image import AnyImage
from vitjax.data.writing import write_image, write_mask
from vitjax.figures import overlay
from vitjax.metrics import ClassScores, ratio
from vitjax.objectives import Segmenter
from vitjax.tasks.images import ImageTask
from vitjax.tasks.inspecting import say_stored
from vitjax.tasks.output import OutputFolder
from vitjax.tasks.reading import OnCorrupt
from vitjax.tasks.segmentation_page import SegmentationPage
from vitjax.tasks.segmenting import Plan, Probabilities, Segmented, plan, segmented
from vitjax.tasks.tables import aligned, class_counts, say_counts, short_name
from vitjax.training import workdir
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read
from vitjax.training.page import Part, Score
from vitjax.training.task import TASKS, Details, Table

_EXTREMES = 3
_SHOWN = 36


@TASKS.register("segmentation")
class Segmentation(ImageTask[MaskDataset, Segmenter]):
    """Semantic segmentation."""

    needed_data = MaskDataset
    needed_objective = Segmenter

    def predict(
        self,
        variables: Any,
        files: Sequence[AnyImage],
        output: str | os.PathLike[str] | None,
        *,
        tile: int | None = None,
        tta: bool = False,
        probabilities: bool = False,
        on_corrupt: OnCorrupt = "error",
    ) -> Iterator[dict[str, Any]]:
        """Segments images of any size; large images in tiles, a few rows at a time.

        For each image ``output`` receives ``<stem>_mask.png``, with the values of the masks that
        the run was trained on and a palette of their colours; ``<stem>_overlay.png``; and, with
        ``probabilities``, ``<stem>_probabilities.npz``, an array ``probabilities`` (height, width,
        classes) in float32. All have the size of the file, also if ``eval_transforms`` resize
        images. Each page of a TIFF is an image; its number follows the stem. Where two images have
        one stem, see `result_names`.

        Args:
            variables: those of the objective, one copy.
            files: paths, Pillow images or arrays.
            output: the folder for the results; None writes nothing.
            tile: tile side in pixels; None predicts images with sides of up to 1024 pixels at
                once, and larger ones in tiles of 512.
            tta: whether to average over the 8 flips and quarter turns of each image.
            probabilities: whether to write probabilities.
            on_corrupt: "skip" to yield an error for an image that cannot be read.

        Yields:
            For each image ``{"image": path, "fractions": {class: fraction of the pixels}}``; the
            page follows the path if the file has several; or its ``"error"``.

        Raises:
            ConfigError: the tile is too small, or a file that no earlier command wrote would be
                replaced.
            DataError: an image cannot be read; nothing is written then.
        """
        folder, classes = OutputFolder.of(output), len(self.class_names)
        kinds = ["_mask.png", "_overlay.png", *(["_probabilities.npz"] if probabilities else [])]
        planned = plan(self.data, files, on_corrupt)
        if folder is not None:
            folder.check(f"{stem}{kind}" for stem in planned.stems if stem for kind in kinds)
        values = self._values()
        writer = Probabilities(folder if probabilities else None, classes)
        colors = self.colors(classes)
        for found in self._segmented(planned, variables, writer, tile, tta):
            if found.error is not None:
                yield {"image": found.title, "error": found.error}
                continue
            if folder is not None:
                with folder.writing(f"{found.stem}_mask.png") as path:
                    write_mask(path, found.mask, colors, values)
                with folder.writing(f"{found.stem}_overlay.png") as path:
                    write_image(path, overlay(found.picture, found.mask, classes, colors))
            yield self._result(found)

    def predict_images(self, variables: Any, images: Sequence[Any], **options: Any) -> list[Any]:
        """As `predict`, with ``"mask"`` in each result: the class of each pixel, by number.

        Args:
            variables: those of the objective, one copy.
            images: paths, Pillow images or arrays.
            **options: ``tile``, ``tta`` and ``on_corrupt`` of `predict`.
        """
        tile, tta = options.pop("tile", None), options.pop("tta", False)
        planned = plan(self.data, images, options.pop("on_corrupt", "error"))
        if options:
            raise ConfigError(
                f"predict: {next(iter(options))!r} is not an option of images in memory; they are"
                " tile, tta and on_corrupt"
            )
        nowhere = Probabilities(None, len(self.class_names))
        return [
            {"image": found.title, "error": found.error}
            if found.error is not None
            else {**self._result(found), "mask": found.mask}
            for found in self._segmented(planned, variables, nowhere, tile, tta)
        ]

    def _segmented(
        self, planned: Plan, variables: Any, writer: Probabilities, tile: int | None, tta: bool
    ) -> Iterator[Segmented]:
        """The mask of each image, one after the other."""
        own = self.data, self.objective, variables
        return segmented(planned, *own, writer, tile=tile, tta=tta)

    def _result(self, found: Segmented) -> dict[str, Any]:
        fractions = {
            name: float(count) / found.mask.size
            for name, count in zip(self.class_names, found.counts, strict=True)
        }
        return {"image": found.title, "fractions": fractions}

    def _values(self) -> list[int]:
        """The value of each class in a mask file; further classes of a head have the next ones."""
        known = self.data.class_values
        extra = len(self.class_names) - len(known)
        return [*known, *(max(known) + 1 + number for number in range(extra))]

    def row(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """The fraction of the pixels of each class."""
        fractions = prediction["fractions"].items()
        return {
            "image": prediction["image"],
            **{f"fraction of {name}": value for name, value in fractions},
        }

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line per image: the fraction of its pixels in each class."""
        return aligned((each["image"], each["fractions"]) for each in predictions)

    def evaluate_in_detail(self, evaluator: Evaluator, variables: Any, split: str) -> Details:
        """`evaluate`, and tables of classes and of images."""
        with evaluator.also_gathering(self.objective.image_counts) as gathered:
            results = self.evaluate(evaluator, variables, split)
        counts, index = gathered.values, gathered.index
        if index is None:  # a task of one's own evaluates in another way
            counts, index = evaluator.gather(self.objective.image_counts, variables, split)
        both, predicted, truth = (
            counts[key].astype(np.int64) for key in ("both", "predicted", "truth")
        )
        names = [self.data.name(split, number) for number in index.tolist()]
        tables = {
            "per_class": _per_class(self.class_names, both, predicted, truth),
            "per_image": _per_image(self.class_names, names, both, predicted, truth),
        }
        return Details(results, tables)

    def report(
        self,
        evaluator: Evaluator,
        variables: Any,
        results: Mapping[str, Mapping[str, Any]],
        folder: Path,
    ) -> None:
        """Draws curves per class, and the images with the lowest and the highest IoU."""
        split = _shown(results)
        if split is not None:
            ious, index = self.gathered(evaluator, self.objective.image_iou, variables, split)
            own = self.experiment.parallel.to_host(variables)
        # Only the first host computes the rest.
        if jax.process_index() > 0:
            return
        records = read(folder.parent / workdir.METRICS)
        with figures.optional("iou.png", evaluator.say):
            figures.class_curves(records, self.class_names, folder / "iou.png")
        if split is None:
            return
        data, predict = self.data, self._compiled
        for name, chosen in self.extremes(ious).items():
            rows, titles = [], []
            for place in map(int, chosen):
                number = int(index[place])
                image, truth = data.example(split, number), data.truth(split, number)
                likely = np.asarray(predict(own, {"image": image[None]}))[0]
                rows.append((image, truth, likely.argmax(axis=-1)))
                name_of_file = short_name(data.name(split, number))
                titles.append(f"{name_of_file}: IoU {ious[place]:.1%}")
            colors = self.colors(len(self.class_names))
            if rows:  # a single image is the worst
                path = folder / f"{name}.png"
                with figures.optional(path.name, evaluator.say):
                    figures.segmentations(rows, titles, self.class_names, path, colors)

    @staticmethod
    def extremes(ious: np.ndarray) -> dict[str, np.ndarray]:
        """The images with the lowest and the highest IoU; none is in both.

        Images of which no pixel counts, whose IoU is NaN, are in neither.
        """
        order = np.argsort(ious, kind="stable")[: np.count_nonzero(~np.isnan(ious))]
        worst = min(_EXTREMES, -(-len(order) // 2))
        best = min(_EXTREMES, len(order) - worst)
        return {"worst": order[:worst], "best": order[::-1][:best]}

    def scores(self, results: Mapping[str, Any]) -> list[Score]:
        """As of every task; that of IoU first."""
        return sorted(super().scores(results), key=lambda score: score.name != "iou")

    def parts(
        self, evaluator: Evaluator, variables: Any, results: Mapping[str, Mapping[str, Any]]
    ) -> list[Part]:
        """Worst and best images, classes, training images, masks over training."""
        split = _shown(results)
        if split is None:
            return []
        page = SegmentationPage(
            self,
            functools.partial(self.gathered, evaluator, self.objective.image_iou, variables, split),
            lambda number: self.mask_of(variables, self.data.example(split, number)),
            split,
            results[split],
        )
        return page.parts(slow=not self.has_gathered(variables, split))

    def mask_of(self, variables: Any, image: np.ndarray) -> np.ndarray:
        """The predicted class of each pixel of an image as it is evaluated."""
        own = self.experiment.parallel.to_host(variables)
        return np.asarray(self._compiled(own, {"image": image[None]}))[0].argmax(axis=-1)

    @functools.cached_property
    def _compiled(self) -> Any:
        """The probabilities of a batch, compiled once."""
        return jax.jit(self.objective.predict)

    def colors(self, classes: int) -> np.ndarray:
        """The colour of each class: that of the data if it has them, (classes, 3) uint8."""
        own = self.data.class_colors
        if own is None or len(own) != classes:
            return figures.palette(classes)
        return np.asarray(own, np.uint8)

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the pixels of each split and class, and draws the first images and masks."""
        data = self.data
        counts = {
            split: class_counts(data.class_names, data.class_pixels(split)) for split in data.splits
        }
        say_counts(counts, data.class_names, say, space=16)
        say(f"images: {' x '.join(map(str, data.image_shape))}; classes: {data.num_classes}")
        say("counts are pixels per class")
        say_stored(data, say)
        with contextlib.closing(data.train_batches()) as batches:
            batch = next(batches)
        pairs = list(zip(batch["image"], batch["label"], strict=True))[:_SHOWN]
        colors = self.colors(data.num_classes)
        with figures.optional(str(output), say):
            images = [overlay(image, label, data.num_classes, colors) for image, label in pairs]
            figures.image_grid(images, [""] * len(images), output)
            say(f"The first {len(images)} images of the first batch: {output}")
        return counts


def _shown(results: Mapping[str, Any]) -> str | None:
    """The split whose images are shown; None if none was evaluated."""
    return "val" if "val" in results else next(iter(results), None)


def _per_class(
    names: Sequence[str], both: np.ndarray, predicted: np.ndarray, truth: np.ndarray
) -> Table:
    """IoU, Dice, precision, recall and pixels of each class, over all images.

    Args:
        names: the name of each class.
        both: right pixels, (images, classes).
        predicted: predicted pixels, (images, classes).
        truth: true pixels, (images, classes).
    """
    sums = [counts.sum(axis=0) for counts in (both, predicted, truth)]
    scores = ClassScores.of(*sums)
    columns = {
        "class": list(names),
        "iou": ratio(sums[0], sums[1] + sums[2] - sums[0]).tolist(),
        "dice": scores.f1.tolist(),
        "precision": scores.precision.tolist(),
        "recall": scores.recall.tolist(),
        "pixels": scores.support.tolist(),
        "predicted_pixels": scores.predicted.tolist(),
    }
    return Table(tuple(columns), list(zip(*columns.values(), strict=True)))


def _per_image(
    names: Sequence[str],
    files: Sequence[str],
    both: np.ndarray,
    predicted: np.ndarray,
    truth: np.ndarray,
) -> Table:
    """The pixel accuracy and the IoU of each image, with the IoU of each class; see `_per_class`.

    The IoU of an image is the mean over the classes that occur in it, in truth or prediction.
    """
    union = predicted + truth - both
    ious = ratio(both, union)
    occurring = (union > 0).sum(axis=1)
    means = ratio(np.nansum(ious, axis=1), occurring)
    accuracies = ratio(both.sum(axis=1), truth.sum(axis=1))
    rows = zip(files, accuracies.tolist(), means.tolist(), ious.tolist(), strict=True)
    return Table(
        ("file", "accuracy", "iou", *(f"iou of {name}" for name in names)),
        [(file, accuracy, mean, *each) for file, accuracy, mean, each in rows],
    )
