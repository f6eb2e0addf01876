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
from vitjax.metrics import ClassScores, ratio
from vitjax.objectives import Segmenter
from vitjax.tasks.images import ImageTask
from vitjax.tasks.tables import aligned, class_counts, say_counts, short_name
from vitjax.tasks.tiling import Tiler
from vitjax.training import workdir
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read
from vitjax.training.task import TASKS, Details, Table

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
        the run was trained on and a colour palette; ``<stem>_overlay.png``; and, with
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
                write_mask(folder / f"{stem}_mask.png", mask, figures.palette(classes), values)
                write_image(folder / f"{stem}_overlay.png", overlay(picture, mask, classes))
        return results

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
        split = "val" if "val" in results else next(iter(results), None)
        if split is not None:
            ious, index = evaluator.gather(self.objective.image_iou, variables, split)
            own = self.experiment.parallel.to_host(variables)
        # Only the first host computes the rest.
        if jax.process_index() > 0:
            return
        records = read(folder.parent / workdir.METRICS)
        with figures.optional("iou.png", evaluator.say):
            figures.class_curves(records, self.class_names, folder / "iou.png")
        if split is None:
            return
        data, predict = self.data, jax.jit(self.objective.predict)
        for name, chosen in _extremes(ious).items():
            rows, titles = [], []
            for place in map(int, chosen):
                number = int(index[place])
                image, truth = data.example(split, number), data.truth(split, number)
                likely = np.asarray(predict(own, {"image": image[None]}))[0]
                rows.append((image, truth, likely.argmax(axis=-1)))
                name_of_file = short_name(data.name(split, number))
                titles.append(f"{name_of_file}: IoU {ious[place]:.1%}")
            if rows:  # a single image is the worst
                with figures.optional(f"{name}.png", evaluator.say):
                    figures.segmentations(rows, titles, self.class_names, folder / f"{name}.png")

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
        with figures.optional(str(output), say):
            images = [overlay(image, label, data.num_classes) for image, label in pairs]
            figures.image_grid(images, [""] * len(images), output)
            say(f"The first {len(images)} images of the first batch: {output}")
        return counts


def _extremes(ious: np.ndarray) -> dict[str, np.ndarray]:
    """The images with the lowest and the highest IoU; none is in both."""
    order = np.argsort(ious, kind="stable")
    worst = min(_EXTREMES, -(-len(order) // 2))
    best = min(_EXTREMES, len(order) - worst)
    return {"worst": order[:worst], "best": order[::-1][:best]}


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
