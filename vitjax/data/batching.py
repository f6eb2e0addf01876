"""From a batch's number to the batch: the one function that all threads and workers run.

Everything about a batch follows from its number and the seed, so any batch can be made at any time
by any worker of any host, and going on from batch n costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.sources.base import Split
from vitjax.data.transforms.pipeline import Pipeline

# Rides in a batch from a worker to `vitjax.data.loader.BatchIterator`, which takes it out: what
# went wrong, as JSON in an array of bytes. An exception would arrive with the worker's traceback.
REPORT = "_report"

ENDLESS = 2**60  # the length of what has no end; Grain wants one

# Children of the seed.
_SHUFFLE, _AUGMENT = 0, 1

# How many corrupt images in a row are believed before the whole split is.
_MAX_PROBES = 100


@functools.lru_cache(maxsize=2)  # an epoch and the one that the batch across the border goes on to
def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order of one epoch: a permutation of ``range(examples)``, uniform over all of them."""
    order = np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(examples)
    return order.astype(np.int32)  # half the memory, for ImageNet-21k


class ExampleRng:
    """A generator that can be set to the stream of any example.

    Philox is a counter-based generator: its key is the seed (with what else tells streams apart)
    and the example's absolute position, and setting the key of one generator costs a tenth of
    making a new one.
    """

    def __init__(self, seed: int, *children: int):
        key = np.random.SeedSequence([seed, *children]).generate_state(1, np.uint64)
        self._bits = np.random.Philox(key=np.array([key[0], 0], np.uint64))
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, position: int) -> np.random.Generator:
        """The generator at the start of the stream of example ``position``."""
        self._state["state"]["key"][1] = position
        self._bits.state = self._state
        return self._generator


class Rows(ABC):
    """Examples of one split as rows of a batch; subclasses say which arrays a row has.

    Attributes:
        split: where examples come from: has a length, and a ``name`` for each index.
        seed: of the randomness in their augmentation.
    """

    split: Any
    seed: int

    @abstractmethod
    def blank(self) -> dict[str, np.ndarray]:
        """The arrays of a row that holds no example, of the shapes and dtypes of all rows."""

    @abstractmethod
    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The arrays of the example at ``index``.

        Raises:
            CorruptImage: it cannot be read and is to be skipped.
            DataError: it cannot be read, or is of another size than the others.
        """

    def batch(self, indices: np.ndarray, positions: range, size: int) -> dict[str, np.ndarray]:
        """The examples at ``indices``, followed by masked padding up to ``size``.

        Args:
            indices: which examples of the split, (n,), n <= size.
            positions: the n absolute positions that seed their augmentation.
            size: examples in the batch.
        """
        batch = {
            key: np.full((size, *empty.shape), empty.flat[0] if empty.size else 0, empty.dtype)
            for key, empty in self.blank().items()
        }
        mask = np.zeros(size, bool)
        skipped = {}
        rng = ExampleRng(self.seed, _AUGMENT)
        for row, (index, position) in enumerate(zip(indices.tolist(), positions, strict=True)):
            try:
                arrays = self.row(index, rng.at(position))
            except CorruptImage as error:
                skipped[self.split.name(index)] = str(error)
            except DataError as error:
                return report({"error": str(error)})
            else:
                for key, array in arrays.items():
                    batch[key][row] = array
                mask[row] = True
        batch["mask"] = mask
        return {**batch, **report({"skipped": skipped})} if skipped else batch


@dataclass(frozen=True)
class Examples(Rows):
    """Transformed examples of one split.

    Attributes:
        split: where images come from.
        pipeline: what is done to them.
        seed: of the randomness in the pipeline.
        shape: (height, width, channels) that the pipeline's results have.
        dtype: that they have.
        skip_corrupt: whether a corrupt image becomes a masked black one instead of an error.
    """

    split: Split
    pipeline: Pipeline
    seed: int
    shape: tuple[int, int, int]
    dtype: np.dtype
    skip_corrupt: bool

    def blank(self) -> dict[str, np.ndarray]:
        """A black image of class 0."""
        return {"image": np.zeros(self.shape, self.dtype), "label": np.zeros((), np.int32)}

    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The transformed image at ``index`` and its label, as `read` gives them."""
        image, label = self.read(index, rng)
        return {"image": image, "label": label}

    def read(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The transformed image at ``index`` and its label.

        Raises:
            CorruptImage: it cannot be read and is to be skipped.
            DataError: it cannot be read, or is of another size than the others.
        """
        with skippable(self.skip_corrupt):
            image, label = self.split.read(index)
            image = self.pipeline(image, rng)
        self._check(image, index)
        return image, label

    def _check(self, image: np.ndarray, index: int) -> None:
        if image.shape != self.shape or image.dtype != self.dtype:
            raise DataError(
                f"{self.split.name(index)}: is {image.dtype} of shape {image.shape} after the"
                f" transforms {self.pipeline.text!r}, and others are {self.dtype} of shape"
                f" {self.shape}; images of one batch have one size: begin the transforms with"
                f" resize(({self.shape[0]}, {self.shape[1]})), or with"
                f" resize({min(self.shape[:2])}) | center_crop({min(self.shape[:2])})"
            )


@contextlib.contextmanager
def skippable(skip_corrupt: bool) -> Iterator[None]:
    """Turns a corrupt image met inside into an error for good, unless ``skip_corrupt``.

    Raises:
        CorruptImage: there was one and it is to be skipped.
        DataError: there was one and it is not; the message names the key that would skip it.
    """
    try:
        yield
    except CorruptImage as error:
        if skip_corrupt:
            raise
        way_out = 'config.data.on_corrupt = "skip" would leave it out'
        raise DataError(f"{error} ({way_out})") from error


def probe(
    split: Split, pipeline: Pipeline, skip_corrupt: bool
) -> tuple[tuple[int, int, int], np.dtype]:
    """Shape and dtype of the first image of ``split`` that can be read, after ``pipeline``.

    Raises:
        DataError: none can be read (with ``skip_corrupt``; else the first must), or it is no image.
    """
    for index in range(min(len(split), _MAX_PROBES)):
        try:
            image = pipeline(split.read(index)[0], np.random.default_rng(0))
        except CorruptImage as error:
            if not skip_corrupt:
                raise
            last = error
            continue
        if image.ndim != 3 or image.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"{split.name(index)}: is {image.dtype} of shape {image.shape}; images are"
                " uint8 or float32 of shape (height, width, channels)"
            )
        height, width, channels = image.shape
        return (height, width, channels), image.dtype
    raise DataError(f"the first {index + 1} images of a split are all corrupt; the last: {last}")


def report(content: dict) -> dict[str, np.ndarray]:
    """The entry of a batch that tells `BatchIterator` of an "error", or what was "skipped"."""
    return {REPORT: np.frombuffer(json.dumps(content).encode(), np.uint8).copy()}


@dataclass(frozen=True)
class TrainBatches:
    """This host's share of an endless sequence of shuffled batches, from ``start`` on.

    Attributes:
        examples: what the batches consist of.
        seed: of the order.
        batch_size: of the global batch, over all hosts.
        rows: this host's part of each global batch.
        start: the number of the first batch.
    """

    examples: Rows
    seed: int
    batch_size: int
    rows: range
    start: int

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        first = (self.start + index) * self.batch_size
        positions = range(first + self.rows.start, first + self.rows.stop)
        total = len(self.examples.split)
        indices = np.empty(len(positions), np.int64)
        row = 0
        while row < len(positions):
            epoch, offset = divmod(positions[row], total)
            order = epoch_order(self.seed, epoch, total)[offset : offset + len(positions) - row]
            indices[row : row + len(order)] = order
            row += len(order)
        return self.examples.batch(indices, positions, len(positions))


@dataclass(frozen=True)
class EvalBatches:
    """This host's share of every example of a split, once each and in order.

    Attributes:
        examples: what the batches consist of.
        batch_size: of the global batch, over all hosts.
        rows: this host's part of each global batch.
    """

    examples: Rows
    batch_size: int
    rows: range

    def __len__(self) -> int:
        return -(-len(self.examples.split) // self.batch_size)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        first = index * self.batch_size
        total = len(self.examples.split)
        positions = range(min(first + self.rows.start, total), min(first + self.rows.stop, total))
        return self.examples.batch(np.asarray(positions, np.int64), positions, len(self.rows))
