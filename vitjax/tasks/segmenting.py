"""Segmenting images of any size, one after the other: what is planned, read, and decided."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vitjax.core.machine import process_cores
from vitjax.data import DataError, MaskDataset
from vitjax.data.any_image import AnyImage, is_file, name_of
from vitjax.data.writing import probability_file
from vitjax.models.protocol import Model
from vitjax.objectives import Segmenter
from vitjax.tasks.output import OutputFolder, result_names
from vitjax.tasks.reading import OnCorrupt, hint_about, read_ahead
from vitjax.tasks.tiling import Tiler
from vitjax.training import finite

# Images with sides of up to `UNTILED` pixels are predicted at once, larger ones in tiles of `TILE`.
UNTILED, TILE = 1024, 512


class PlannedImage(NamedTuple):
    """An image to predict.

    Attributes:
        picture: its file, or the image itself.
        page: the page of the file.
        end: what follows the stem of the file in the names of its results.
        title: its name in messages.
    """

    picture: AnyImage
    page: int
    end: str
    title: str

    @property
    def title_of_file(self) -> str:
        """The file's path; for an image that is not a file, its title."""
        return name_of(self.picture) if is_file(self.picture) else self.title


class Plan(NamedTuple):
    """What will be segmented.

    Attributes:
        images: all images.
        stems: the beginning of the names of each image's results; None if it cannot be read.
        unread: why an image cannot be read, by its place in ``images``.
        longest: the longest side of a prepared image, in pixels.
        largest: the number of pixels of the largest image.
    """

    images: list[PlannedImage]
    stems: list[str | None]
    unread: dict[int, str]
    longest: int
    largest: int


class Segmented(NamedTuple):
    """An image and its mask, or why it cannot be read."""

    title: str
    stem: str = ""
    picture: Any = None
    mask: Any = None
    counts: Any = None
    error: str | None = None


class Probabilities(NamedTuple):
    """Where the probabilities of images are written; nowhere without a folder."""

    folder: OutputFolder | None
    classes: int

    @contextlib.contextmanager
    def writing(
        self, stem: str, size: tuple[int, int]
    ) -> Iterator[Callable[[np.ndarray], object] | None]:
        """Yields a function that takes the next rows of an image of ``size``."""
        if self.folder is None:
            yield None
            return
        with (
            self.folder.writing(f"{stem}_probabilities.npz") as path,
            probability_file(path, (*size, self.classes)) as write,
        ):
            yield write


def plan(data: MaskDataset, files: Sequence[AnyImage], on_corrupt: OnCorrupt) -> Plan:
    """All images, each read once to see that it can be, and the longest side."""
    hint = hint_about(files)

    def measured(image: PlannedImage) -> tuple[int, int]:
        picture = data.read_picture(image.picture, image.page)
        return max(data.prepared(picture).shape[:2]), math.prod(picture.shape[:2])

    images: list[PlannedImage] = []
    unread: dict[int, str] = {}
    for number, (file, pages) in enumerate(
        zip(files, read_ahead(data.pages, files, on_corrupt, hint=hint), strict=True)
    ):
        name = name_of(file, number)
        if isinstance(pages, DataError):
            unread[len(images)] = str(pages)
            pages = 1
        for page in range(pages):
            title = name if pages == 1 else f"{name}, page {page}"
            width = len(str(pages - 1))  # so that names sort by page
            images.append(PlannedImage(file, page, f"_{page:0{width}}" if pages > 1 else "", title))
    readable = [image for place, image in enumerate(images) if place not in unread]
    places = [place for place in range(len(images)) if place not in unread]
    longest = largest = 0
    threads = min(4, process_cores())
    sides = read_ahead(measured, readable, on_corrupt, threads=threads, hint=hint)
    for place, found in zip(places, sides, strict=True):
        if isinstance(found, DataError):
            unread[place] = str(found)
        else:
            longest, largest = max(longest, found[0]), max(largest, found[1])
    stems = result_names([(image.title_of_file, image.end) for image in images])
    kept = [None if place in unread else stem for place, stem in enumerate(stems)]
    return Plan(images, kept, unread, longest, largest)


def segmented(
    plan: Plan,
    data: MaskDataset,
    objective: Segmenter,
    variables: Any,
    writer: Probabilities,
    *,
    tile: int | None = None,
    tta: bool = False,
) -> Iterator[Segmented]:
    """The mask of each image of a plan, one after the other; threads read ahead.

    Args:
        plan: the images.
        data: reads and transforms them.
        objective: that of the run.
        variables: those of the objective, one copy.
        writer: where probabilities are written.
        tile: tile side in pixels; None predicts images of up to `UNTILED` pixels at once.
        tta: whether to average over the 8 flips and quarter turns.

    Raises:
        NotFiniteError: a probability is NaN.
    """
    side = tile or (TILE if plan.longest > UNTILED else None)
    bands = _predictor(objective, variables, side, tta)
    with contextlib.closing(pictures_of(plan, data)) as pictures:
        for place, (image, stem) in enumerate(zip(plan.images, plan.stems, strict=True)):
            if stem is None:
                yield Segmented(image.title, error=plan.unread[place])
                continue
            picture = next(pictures)
            fed, size = data.prepared(picture), picture.shape[:2]
            found = bands(fed)
            if fed.shape[:2] != size:
                found = iter([data.restored(np.concatenate(list(found)), size)])
            with writer.writing(stem, size) as write:
                if write is not None:
                    found = _copied(found, write)
                mask, counts = _decided(found, size, writer.classes, image.title, objective.model)
            yield Segmented(image.title, stem, picture, mask, counts)


def pictures_of(plan: Plan, data: MaskDataset) -> Generator[np.ndarray, None, None]:
    """The readable images of ``plan``; small ones are read ahead, so that memory is bounded."""

    def read(image: PlannedImage) -> np.ndarray:
        return data.read_picture(image.picture, image.page)

    readable = (i for i, stem in zip(plan.images, plan.stems, strict=True) if stem is not None)
    yield from map(read, readable) if plan.largest > UNTILED**2 else read_ahead(read, readable)


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
    bands: Iterator[np.ndarray], size: tuple[int, int], classes: int, title: str, model: Model
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each pixel, (height, width), and the pixels of each class.

    Args:
        bands: the probabilities of all pixels, some rows at a time.
        size: (height, width).
        classes: the number of classes.
        title: the name of the image in errors.
        model: the network.

    Raises:
        NotFiniteError: a probability is NaN.
    """
    mask = np.zeros(size, np.min_scalar_type(classes - 1))
    counts = np.zeros(classes, np.int64)
    start = 0
    for rows in bands:
        finite.check_outputs(rows, f"{title}: the checkpoint's model", model)
        chosen = rows.argmax(axis=-1)
        mask[start : start + len(rows)] = chosen
        counts += np.bincount(chosen.ravel(), minlength=classes)
        start += len(rows)
    return mask, counts
