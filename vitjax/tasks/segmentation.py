"""Segmentation: the masks that a run gives image files, and the images it gets wrong and right."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vitjax import figures
from vitjax.core.errors import ConfigError
from vitjax.data.writing import probability_file, write_image, write_mask
from vitjax.figures import overlay
from vitjax.tasks.classification import aligned, class_counts, say_counts
from vitjax.tasks.tiling import Tiler
from vitjax.training import workdir
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read
from vitjax.training.task import TASKS, Task

_EXTREMES = 3
_SHOWN = 36
# An image of sides up to this many pixels is predicted at once, a larger one in tiles.
WHOLE, TILE = 1024, 512


@TASKS.register("segmentation")
class Segmentation(Task):
    """Semantic segmentation; its objective is a `vitjax.objectives.Segmentation`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's outputs stand for; a head may have more of them than the data names."""
        names = tuple(self.experiment.data.class_names)
        objective: Any = self.experiment.objective
        return names + tuple(f"class {n}" for n in range(len(names), objective.num_classes))

    def predict(
        self,
        variables: Any,
        files: Sequence[str | Path],
        output: str | Path | None,
        *,
        tile: int | None = None,
        tta: bool = False,
        probabilities: bool = False,
    ) -> list[dict[str, Any]]:
        """Segments image files of any size: large ones in tiles, a few rows at a time.

        Into ``output`` go for each image ``<stem>_mask.png``, which has the values of the masks
        that the run was trained on and a palette of colours; ``<stem>_overlay.png``; and with
        ``probabilities`` ``<stem>_probabilities.npz`` with ``probabilities`` (height, width,
        classes) float32. All are of the file's own size, whatever ``eval_transforms`` does to it. A
        TIFF of several pages is as many images, whose number follows the stem.

        Args:
            variables: of the objective, one copy.
            files: paths of the image files.
            output: a folder; None writes nothing.
            tile: the side in pixels of the tiles that an image is predicted in; None predicts
                images of up to `WHOLE` pixels a side at once, and others in tiles of `TILE`.
            tta: average over the 8 flips and quarter turns of each image.
            probabilities: write them too.

        Returns:
            For each image ``{"image": path, "fractions": {class: fraction of the pixels}}``; the
            page follows the path, if the file has several.

        Raises:
            ConfigError: two images would have one name in ``output``; a tile that is too small.
            DataError: an image cannot be read. Nothing is written then.
        """
        data: Any = self.experiment.data
        images = [image for path in files for image in _images(path, data.pages(path))]
        counts_of_stems = Counter(image.stem for image in images)
        if twice := [stem for stem, count in counts_of_stems.items() if count > 1]:
            raise ConfigError(f"two images are called {twice[0]!r}: their masks would be one file")
        sides = [
            max(data.prepared(data.read_picture(image.path, image.page)).shape[:2])
            for image in images
        ]  # all can be read
        side = tile or (TILE if max(sides, default=0) > WHOLE else None)
        bands = _predictor(self.experiment.objective, variables, side, tta)
        names = self.class_names
        # A head may have more classes than the data names: their values are the next ones.
        known = data.class_values
        values = [*known, *(max(known) + 1 + extra for extra in range(len(names) - len(known)))]
        results = []
        for path, page, stem, title in images:
            picture = data.read_picture(path, page)
            fed, size = data.prepared(picture), picture.shape[:2]
            found = bands(fed)
            if fed.shape[:2] != size:
                found = iter([data.restored(np.concatenate(list(found)), size)])
            with contextlib.ExitStack() as stack:
                if output is not None and probabilities:
                    place = Path(output) / f"{stem}_probabilities.npz"
                    write = stack.enter_context(probability_file(place, (*size, len(names))))
                    found = _handed_on(found, write)
                mask, counts = _decided(found, size, len(names), title)
            fractions = {n: float(c) / mask.size for n, c in zip(names, counts, strict=True)}
            results.append({"image": title, "fractions": fractions})
            if output is not None:
                folder, classes = Path(output), len(names)
                write_mask(folder / f"{stem}_mask.png", mask, figures.palette(classes), values)
                write_image(folder / f"{stem}_overlay.png", overlay(picture, mask, classes))
        return results

    def table(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line per image: the fraction of its pixels in each class."""
        return aligned((each["image"], each["fractions"]) for each in predictions)

    def report(
        self,
        evaluator: Evaluator,
        variables: Any,
        results: Mapping[str, Mapping[str, Any]],
        folder: Path,
    ) -> None:
        """Draws each class's course, and the images with the lowest and the highest IoU."""
        if jax.process_index() == 0:
            records = read(folder.parent / workdir.METRICS)
            figures.class_curves(records, self.class_names, folder / "iou.png")
        if not results:
            return
        split = "val" if "val" in results else next(iter(results))
        objective: Any = self.experiment.objective
        ious, index = evaluator.gather(objective.image_iou, variables, split)
        own = self.experiment.parallel.to_host(variables)
        # The first host alone computes what follows.
        if jax.process_index() > 0:
            return
        data: Any = self.experiment.data
        predict = jax.jit(objective.predict)
        order = np.argsort(ious, kind="stable")
        for name, chosen in (("worst", order[:_EXTREMES]), ("best", order[::-1][:_EXTREMES])):
            rows, titles = [], []
            for place in map(int, chosen):
                number = int(index[place])
                image, truth = data.example(split, number), data.truth(split, number)
                likely = np.asarray(predict(own, {"image": image[None]}))[0]
                rows.append((image, truth, likely.argmax(axis=-1)))
                titles.append(f"{data.source.split(split).name(number)}: IoU {ious[place]:.1%}")
            figures.segmentations(rows, titles, self.class_names, folder / f"{name}.png")

    def inspect(self, output: str | Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Counts the pixels of each split and class, and draws the first images and masks."""
        data: Any = self.experiment.data
        counts = {
            split: class_counts(data.class_names, data.class_pixels(split)) for split in data.splits
        }
        say_counts(counts, data.class_names, say, space=16)
        say(f"images: {' x '.join(map(str, data.image_shape))}; classes: {data.num_classes}")
        say("counts are of the pixels of each class")
        with contextlib.closing(data.train_batches()) as batches:
            batch = next(batches)
        pairs = list(zip(batch["image"], batch["label"], strict=True))[:_SHOWN]
        images = [overlay(image, label, data.num_classes) for image, label in pairs]
        figures.image_grid(images, [""] * len(images), output)
        say(f"The first {len(images)} images of the first batch: {output}")
        return counts


class _Image(NamedTuple):
    """An image to predict.

    Attributes:
        path: its file.
        page: of the file.
        stem: what the files that are written for it begin with.
        title: what a person calls it.
    """

    path: str | Path
    page: int
    stem: str
    title: str


def _images(path: str | Path, pages: int) -> list[_Image]:
    """The images in a file of so many pages."""
    stem = Path(path).stem
    if pages == 1:
        return [_Image(path, 0, stem, str(path))]
    width = len(str(pages - 1))  # so that files lie in order
    return [
        _Image(path, page, f"{stem}_{page:0{width}}", f"{path}, page {page}")
        for page in range(pages)
    ]


def _predictor(
    objective: Any, variables: Any, side: int | None, tta: bool
) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """A function that gives an image's class probabilities, some rows at a time.

    Args:
        objective: of a segmentation.
        variables: of the model, one copy.
        side: of tiles; None predicts images whole.
        tta: average over the 8 flips and quarter turns.
    """
    if side is not None:
        return functools.partial(Tiler(objective, variables, side).bands, tta=tta)
    if tta:
        return lambda image: Tiler(objective, variables, max(image.shape[:2])).bands(image, tta=tta)
    step = jax.jit(objective.predict)
    return lambda image: iter([np.asarray(step(variables, {"image": image[None]}))[0]])


def _handed_on(
    bands: Iterator[np.ndarray], also: Callable[[np.ndarray], object]
) -> Iterator[np.ndarray]:
    """``bands``, each of which ``also`` is given before."""
    for rows in bands:
        also(rows)
        yield rows


def _decided(
    bands: Iterator[np.ndarray], size: tuple[int, int], classes: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each pixel, (height, width), and the pixels of each class.

    Args:
        bands: probabilities of all pixels, some rows at a time.
        size: (height, width).
        classes: how many there are.
        title: what an error calls the image.

    Raises:
        CheckpointError: a probability is none.
    """
    mask = np.zeros(size, np.min_scalar_type(classes - 1))
    counts = np.zeros(classes, np.int64)
    start = 0
    for rows in bands:
        if not np.isfinite(rows).all():
            raise CheckpointError(f"{title}: the checkpoint's model gives probabilities of NaN")
        chosen = rows.argmax(axis=-1)
        mask[start : start + len(rows)] = chosen
        counts += np.bincount(chosen.ravel(), minlength=classes)
        start += len(rows)
    return mask, counts
