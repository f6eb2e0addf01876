"""Images read by threads ahead of the model, in batches of one size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.machine import process_cores
from vitjax.data import DataError, ImageShapeError
from vitjax.data.any_image import AnyImage, is_file, name_of, several
from vitjax.data.image_files import measure
from vitjax.data.image_formats import MAX_PIXELS

OnCorrupt = Literal["error", "skip"]

BATCH = 64
_MAX_THREADS = 16
SKIP = "--on-corrupt=skip (on_corrupt='skip') leaves out what cannot be read"
_LISTED = 5

ItemT = TypeVar("ItemT")


class Answer(NamedTuple):
    """What was computed for an image, or why it could not be read.

    Attributes:
        name: of the image, as results call it.
        image: its pixels as the model's data has them.
        values: the outputs for it.
        error: why it could not be read; the others are None then.
    """

    name: str
    image: np.ndarray | None = None
    values: np.ndarray | None = None
    error: str | None = None

    @property
    def failure(self) -> dict[str, str]:
        """The result for an image that could not be read."""
        return {"image": self.name, "error": str(self.error)}


def answers(
    compute: Callable[[np.ndarray], Any],
    read: Callable[[AnyImage], np.ndarray],
    images: Sequence[AnyImage],
    batch_size: int,
    on_corrupt: OnCorrupt,
    hint: str = SKIP,
) -> Iterator[Answer]:
    """Yields the outputs for each image, in order; one batch of images is in memory.

    Args:
        compute: the outputs for a batch of images; all batches have one size, so that it is
            compiled once. The last one is padded.
        read: the pixels of an image, of one shape for all.
        images: what to read.
        batch_size: the number of images in a batch.
        on_corrupt: "skip" to yield an error for an image that cannot be read.
        hint: what can be done about one file of several; see `hint_about`.

    Raises:
        DataError: an image cannot be read, and is not to be skipped.
        ImageShapeError: an image is not of the shape that the model takes.
    """
    read_images = read_ahead(read, images, on_corrupt, hint=hint_about(images, hint))
    size = min(batch_size, len(images))
    waiting: list[Answer] = []
    readable = 0
    for image, (number, found) in zip(images, enumerate(read_images), strict=True):
        name = name_of(image, number)
        if isinstance(found, DataError):
            waiting.append(Answer(name, error=str(found)))
        else:
            waiting.append(Answer(name, found))
            readable += 1
        if readable == size:
            yield from _computed(compute, waiting, size)
            waiting, readable = [], 0
    yield from _computed(compute, waiting, size)


def read_ahead(
    read: Callable[[ItemT], Any],
    items: Iterable[ItemT],
    on_corrupt: OnCorrupt = "error",
    *,
    threads: int | None = None,
    hint: str = "",
) -> Generator[Any, None, None]:
    """Yields ``read(item)`` for each item, from threads that run a few items ahead.

    Args:
        read: called in a thread.
        items: what to read.
        on_corrupt: "skip" to yield the `DataError` that reading an item raised.
        threads: their number; None for one per core.
        hint: what can be done about an item that cannot be read, for the error.

    Raises:
        DataError: an item cannot be read, and is not to be skipped.
        ImageShapeError: an image is not of the shape that the model takes.
    """
    count = threads or min(_MAX_THREADS, process_cores())
    waiting: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="images")

    def result() -> Any:
        try:
            return waiting.popleft().result()
        except ImageShapeError:  # the images are as they should be, and the model is another
            raise
        except DataError as error:
            if on_corrupt == "skip":
                return error
            if not hint:
                raise
            raise DataError(f"{error} ({hint})") from error

    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > 2 * count:
                yield result()
        while waiting:
            yield result()
    finally:
        pool.shutdown(cancel_futures=True)


def hint_about(images: Sequence[AnyImage], hint: str = SKIP) -> str:
    """``hint`` if ``images`` are several files, and nothing for an only one or for arrays."""
    return hint if len(images) > 1 and all(map(is_file, images)) else ""


def check_heads(
    images: Sequence[AnyImage],
    max_pixels: int = MAX_PIXELS,
    *,
    hint: str = SKIP,
    what: str = "images",
) -> None:
    """Reads the head of each image file, in threads.

    Args:
        images: the images.
        max_pixels: a file with more is an error.
        hint: what can be done about one file of several.
        what: the images are called.

    Raises:
        DataError: some are not images; the message counts them and lists the first.
    """
    files = [image for image in images if isinstance(image, str | os.PathLike)]
    heads = read_ahead(lambda file: measure(file, max_pixels), files, "skip")
    errors = [found for found in heads if isinstance(found, DataError)]
    if errors:
        shown = "\n".join(f"  {error}" for error in errors[:_LISTED])
        more = f"\n  and {len(errors) - _LISTED:,} more" if len(errors) > _LISTED else ""
        count = f"{len(errors):,} of {len(files):,} {what}" if len(files) > 1 else "the image"
        advice = hint_about(files, hint)
        raise DataError(
            f"{count} cannot be read:\n{shown}{more}" + (f"\n{advice}" if advice else "")
        )


def check_shape(read: Callable[[AnyImage], np.ndarray], images: Sequence[AnyImage]) -> None:
    """Reads the first image: of which shape it is tells early whether images fit the model.

    Raises:
        ImageShapeError: it has another shape than the model takes.
    """
    for image in images[:1]:
        try:
            read(image)
        except ImageShapeError:
            raise
        except DataError:  # reported, or skipped, when all are read
            pass


def some(images: AnyImage | Iterable[AnyImage]) -> list[AnyImage]:
    """`several` images to predict.

    Raises:
        ConfigError: there are none.
        DataError: they are not images.
    """
    found = several(images)
    if not found:
        raise ConfigError("predict: no images are given")
    return found


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one shape as one array; bytes among floats are scaled as `unit_range` does."""
    if len({image.dtype for image in images}) > 1:
        images = [unit_range(image) for image in images]
    return np.stack(images)


def unit_range(images: Any) -> Any:
    """Images of bytes as floats in 0..1; other images unchanged."""
    return images.astype("float32") / 255 if images.dtype == np.uint8 else images


def _computed(
    compute: Callable[[np.ndarray], Any], waiting: Sequence[Answer], size: int
) -> Iterator[Answer]:
    """``waiting`` with the outputs of a batch of ``size`` images."""
    images = [answer.image for answer in waiting if answer.image is not None]
    rows: Iterator[np.ndarray] = iter(())
    if images:
        batch = stacked(images + images[-1:] * (size - len(images)))
        rows = iter(np.asarray(compute(batch))[: len(images)])
    for answer in waiting:
        yield answer if answer.image is None else answer._replace(values=next(rows))
