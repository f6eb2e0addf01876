"""The pictures of a segmentation run, and the masks that it gives image files."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vitjax import figures
from vitjax.core.errors import ConfigError
from vitjax.data.segmentation import probability_file, write_mask, write_picture
from vitjax.tasks.tiling import Tiler
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment

_SHOWN = 3
# An image of sides up to so many pixels is predicted whole, a larger one in tiles.
WHOLE, TILE = 1024, 512


def draw(evaluator: Evaluator, variables: Any, split: str, pictures: Path) -> None:
    """Draws the images of ``split`` with the lowest and the highest intersection over union.

    All hosts call it, and the first one draws.

    Args:
        evaluator: of the run's experiment.
        variables: placed on the devices.
        split: whose images are drawn.
        pictures: the folder.
    """
    ious = evaluator.image_ious(variables, split)
    if jax.process_index() > 0:
        return
    experiment = evaluator.experiment
    data, objective = experiment.data, evaluator.objective
    # Copies of the first host: it alone computes what follows.
    own = jax.device_get(experiment.parallel.fetch(variables))
    predict = jax.jit(objective.predict)
    order = np.argsort(ious, kind="stable")
    for name, chosen in (("worst", order[:_SHOWN]), ("best", order[::-1][:_SHOWN])):
        rows, titles = [], []
        for index in map(int, chosen):
            image, truth = data.example(split, index), data.truth(split, index)
            probabilities = np.asarray(predict(own, {"image": image[None]}))[0]
            rows.append((image, truth, probabilities.argmax(axis=-1)))
            titles.append(f"{split} {index}: IoU {ious[index]:.1%}")
        figures.segmentations(rows, titles, experiment.class_names, pictures / f"{name}.png")


def predict(
    experiment: Experiment,
    variables: Any,
    paths: Sequence[str | Path],
    output: str | Path | None,
    *,
    tile: int | None = None,
    tta: bool = False,
    keep_probabilities: bool = False,
) -> list[dict[str, Any]]:
    """Segments image files of any size: large ones in tiles, a few rows at a time.

    Into ``output`` go for each image ``<stem>_mask.png``, which has the values of the masks that
    the run was trained on and is shown in colours; ``<stem>_overlay.png``; and with
    ``keep_probabilities`` ``<stem>_probabilities.npz`` with ``probabilities`` (height, width,
    classes) float32. All are of the file's own size, whatever ``eval_transforms`` make of it. A
    TIFF of several pages is as many images, whose number is behind the stem.

    Args:
        experiment: of the run.
        variables: of the model, one copy.
        paths: of the image files.
        output: a folder; None writes nothing.
        tile: the side in pixels of the tiles that an image is predicted in; None takes images of
            up to `WHOLE` pixels a side whole, and others in tiles of `TILE`.
        tta: average over the 8 flips and quarter turns of each image.
        keep_probabilities: write them too.

    Returns:
        For each image ``{"image": path, "shares": {class: share of the pixels}}``; the page is
        behind the path, if the file has several.

    Raises:
        ConfigError: two images would have one name in ``output``; a tile that is too small.
        DataError: an image cannot be read. Nothing is written then.
    """
    data = experiment.data
    images = [image for path in paths for image in _images(path, data.pages(path))]
    names_of_files = Counter(image.stem for image in images)
    if twice := [stem for stem, count in names_of_files.items() if count > 1]:
        raise ConfigError(f"two images are called {twice[0]!r}: their masks would be one file")
    sides = [
        max(data.prepared(data.read_picture(image.path, image.page)).shape[:2]) for image in images
    ]  # all can be read
    side = tile or (TILE if max(sides, default=0) > WHOLE else None)
    bands = _predictor(experiment.objective, variables, side, tta)
    names = experiment.class_names
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
        with contextlib.ExitStack() as files:
            if output is not None and keep_probabilities:
                place = Path(output) / f"{stem}_probabilities.npz"
                write = files.enter_context(probability_file(place, (*size, len(names))))
                found = _handed_on(found, write)
            mask, counts = _decided(found, size, len(names), title)
        shares = {n: float(c) / mask.size for n, c in zip(names, counts, strict=True)}
        results.append({"image": title, "shares": shares})
        if output is not None:
            folder, classes = Path(output), len(names)
            write_mask(folder / f"{stem}_mask.png", mask, figures.palette(classes), values)
            write_picture(folder / f"{stem}_overlay.png", figures.overlay(picture, mask, classes))
    return results


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
