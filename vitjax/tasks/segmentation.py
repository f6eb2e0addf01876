"""Semantic segmentation: masks of image files, and the worst and best images of a split."""

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
from vitjax.data import MaskDataset
from vitjax.data.writing import probability_file, write_image, write_mask
from vitjax.figures import overlay
from vitjax.objectives import Segmenter
from vitjax.tasks.images import ImageTask
from vitjax.tasks.tables import aligned, class_counts, say_counts
from vitjax.tasks.tiling import Tiler
from vitjax.training import workdir
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read
from vitjax.training.task import TASKS

_EXTREMES = 3
_SHOWN = 36
# Images with sides of up to `UNTILED` pixels are predicted at once, larger ones in tiles of `TILE`.
UNTILED, TILE = 1024, 512


@TASKS.register("segmentation")
class Segmentation(ImageTask[MaskDataset, Segmenter]):
    """Semantic segmentation."""

    needed_data = MaskDataset
    needed_objective = Segmenter

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
        """Segments image files of any size; large images in tiles, a few rows at a time.

        For each image ``output`` receives ``<stem>_mask.png``, with the values of the masks that
        the run was trained on and a palette of their colours; ``<stem>_overlay.png``; and, with
        ``probabilities``, ``<stem>_probabilities.npz``, an array ``probabilities`` (height, width,
        classes) in float32. All have the size of the file, also if ``eval_transforms`` resize
        images. Each page of a TIFF is an image; its number follows the stem.

        Args:
            variables: those of the objective, one copy.
            files: paths of the image files.
            output: the folder for the results; None writes nothing.
            tile: tile side in pixels; None predicts images with sides of up to `UNTILED` pixels at
                once, and larger ones in tiles of `TILE`.
            tta: whether to average over the 8 flips and quarter turns of each image.
            probabilities: whether to write probabilities.

        Returns:
            For each image ``{"image": path, "fractions": {class: fraction of the pixels}}``; the
            page follows the path if the file has several.

        Raises:
            ConfigError: two images have the same name in ``output``, or the tile is too small.
            DataError: an image cannot be read; nothing is written then.
        """
        data = self.data
        images = [image for path in files for image in _images(path, data.pages(path))]
        counts_of_stems = Counter(image.stem for image in images)
        if twice := [stem for stem, count in counts_of_stems.items() if count > 1]:
            raise ConfigError(f"two images are called {twice[0]!r}; their masks would be one file")
        sides = [
            max(data.prepared(data.read_picture(image.path, image.page)).shape[:2])
            for image in images
        ]  # all can be read
        side = tile or (TILE if max(sides, default=0) > UNTILED else None)
        bands = _predictor(self.objective, variables, side, tta)
        names = self.class_names
        # Further classes of a head have the next values.
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
                    found = _copied(found, write)
                mask, counts = _decided(found, size, len(names), title)
            fractions = {n: float(c) / mask.size for n, c in zip(names, counts, strict=True)}
            results.append({"image": title, "fractions": fractions})
            if output is not None:
                folder, classes = Path(output), len(names)
                colors = self._colors(classes)
                write_mask(folder / f"{stem}_mask.png", mask, colors, values)
                write_image(folder / f"{stem}_overlay.png", overlay(picture, mask, classes, colors))
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
        """Draws curves per class, and the images with the lowest and the highest IoU."""
        split = "val" if "val" in results else next(iter(results), None)
        if split is not None:
            ious, index = evaluator.gather(self.objective.image_iou, variables, split)
            own = self.experiment.parallel.to_host(variables)
        # Only the first host computes the rest.
        if jax.process_index() > 0:
            return
        records = read(folder.parent / workdir.METRICS)
        figures.class_curves(records, self.class_names, folder / "iou.png")
        if split is None:
            return
        data, predict = self.data, jax.jit(self.objective.predict)
        order = np.argsort(ious, kind="stable")
        for name, chosen in (("worst", order[:_EXTREMES]), ("best", order[::-1][:_EXTREMES])):
            rows, titles = [], []
            for place in map(int, chosen):
                number = int(index[place])
                image, truth = data.example(split, number), data.truth(split, number)
                likely = np.asarray(predict(own, {"image": image[None]}))[0]
                rows.append((image, truth, likely.argmax(axis=-1)))
                titles.append(f"{data.name(split, number)}: IoU {ious[place]:.1%}")
            colors = self._colors(len(self.class_names))
            figures.segmentations(rows, titles, self.class_names, folder / f"{name}.png", colors)

    def _colors(self, classes: int) -> np.ndarray:
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
        with contextlib.closing(data.train_batches()) as batches:
            batch = next(batches)
        pairs = list(zip(batch["image"], batch["label"], strict=True))[:_SHOWN]
        colors = self._colors(data.num_classes)
        images = [overlay(image, label, data.num_classes, colors) for image, label in pairs]
        figures.image_grid(images, [""] * len(images), output)
        say(f"The first {len(images)} images of the first batch: {output}")
        return counts


class _Image(NamedTuple):
    """An image to predict.

    Attributes:
        path: its file.
        page: the page of the file.
        stem: the beginning of the names of its results.
        title: its name in messages.
    """

    path: str | Path
    page: int
    stem: str
    title: str


def _images(path: str | Path, pages: int) -> list[_Image]:
    """The images in a file with the given number of pages."""
    stem = Path(path).stem
    if pages == 1:
        return [_Image(path, 0, stem, str(path))]
    width = len(str(pages - 1))  # so that names sort by page
    return [
        _Image(path, page, f"{stem}_{page:0{width}}", f"{path}, page {page}")
        for page in range(pages)
    ]


def _predictor(
    objective: Segmenter, variables: Any, side: int | None, tta: bool
) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """A function that yields the class probabilities of an image, some rows at a time.

    Args:
        objective: the objective.
        variables: those of the objective, one copy.
        side: tile side in pixels; None predicts complete images.
        tta: whether to average over the 8 flips and quarter turns.
    """
    if side is not None:
        return functools.partial(Tiler(objective, variables, side).bands, tta=tta)
    if tta:
        return lambda image: Tiler(objective, variables, max(image.shape[:2])).bands(image, tta=tta)
    step = jax.jit(objective.predict)
    return lambda image: iter([np.asarray(step(variables, {"image": image[None]}))[0]])


def _copied(
    bands: Iterator[np.ndarray], also: Callable[[np.ndarray], object]
) -> Iterator[np.ndarray]:
    """``bands``, each passed to ``also`` first."""
    for rows in bands:
        also(rows)
        yield rows


def _decided(
    bands: Iterator[np.ndarray], size: tuple[int, int], classes: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each pixel, (height, width), and the pixels of each class.

    Args:
        bands: the probabilities of all pixels, some rows at a time.
        size: (height, width).
        classes: the number of classes.
        title: the name of the image in errors.

    Raises:
        CheckpointError: a probability is NaN.
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
