"""The images that episodes are drawn from: split by class, read one by one or kept in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitjax.core.machine import process_cores
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.examples import Examples
from vitjax.data.sample import Sample
from vitjax.data.sources.base import LabelledSplit, Source, Stored

_MAX_THREADS = 16
_DECODED_AT_ONCE = 256  # by one thread before it looks for more work


@dataclass(frozen=True)
class Pool:
    """The images of all splits of a source as one `LabelledSplit`, ordered by split of the class.

    Attributes:
        parts: the source's splits.
        part: which of them each image is in, (images,).
        row: which row of it each image is, (images,).
        labels: the source's number of each image's class, int32, (images,).
        ranges: the name of each split to its images: the first, and the one after the last.
    """

    parts: Sequence[LabelledSplit]
    part: np.ndarray
    row: np.ndarray
    labels: np.ndarray
    ranges: Mapping[str, tuple[int, int]]

    @classmethod
    def of(
        cls, source: Source[LabelledSplit], class_split: Mapping[str, Sequence[int]] | None
    ) -> Pool:
        """All images of ``source``.

        Args:
            source: where they are.
            class_split: the classes of each split, by the source's numbers; images of all splits
                of the source go to the split of their class. None keeps the source's splits.

        Raises:
            DataError: without a class split, two splits share a class.
        """
        parts = list(source.splits.values())
        part = np.repeat(np.arange(len(parts), dtype=np.int32), [len(p) for p in parts])
        row = np.concatenate([np.arange(len(p), dtype=np.int32) for p in parts])
        labels = np.concatenate([p.labels for p in parts])
        if class_split is None:
            _check_disjoint(source)
            chosen = [np.flatnonzero(part == number) for number in range(len(parts))]
            names = list(source.splits)
        else:
            # In the order of the source, so that the order in a file does not matter.
            chosen = [np.flatnonzero(np.isin(labels, c)) for c in class_split.values()]
            names = list(class_split)
        ends = np.cumsum([len(c) for c in chosen]).tolist()
        order = np.concatenate(chosen)
        ranges = dict(zip(names, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        return cls(parts, part[order], row[order], labels[order], ranges)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Sample:
        """The sample at ``index``, with the source's label."""
        return self.parts[self.part[index]].read(int(self.row[index]))

    def name(self, index: int) -> str:
        """The name of the example at ``index`` in its own split."""
        return self.parts[self.part[index]].name(int(self.row[index]))

    def labels_of(self, split: str) -> np.ndarray:
        """The source's number of the class of each image of ``split``, int32."""
        start, stop = self.ranges[split]
        return self.labels[start:stop]

    def classes_of(self, split: str) -> np.ndarray:
        """The source's numbers of the classes of ``split``, in order."""
        return np.unique(self.labels_of(split))

    def members(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The images of ``split``, class by class, and the number of images of each class."""
        labels = self.labels_of(split)
        order = np.argsort(labels, kind="stable") + self.ranges[split][0]
        return order.astype(np.int32), np.unique(labels, return_counts=True)[1]

    def stored(self, split: str) -> Stored | None:
        """The images of ``split`` as they are stored; None if the source cannot compare them."""
        start, stop = self.ranges[split]
        parts = [part for part in self.parts if isinstance(part, Stored)]
        whole = len(parts) == len(self.parts)
        return _Stretch(parts, self.part[start:stop], self.row[start:stop]) if whole else None


@dataclass(frozen=True)
class _Stretch(Stored):
    """Some images of a pool."""

    parts: Sequence[Stored]
    part: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def name(self, index: int) -> str:
        part, row = self._of(index)
        return part.name(row)

    def size(self, index: int) -> tuple[int, int]:
        part, row = self._of(index)
        return part.size(row)

    def stored_bytes(self, index: int) -> int:
        part, row = self._of(index)
        return part.stored_bytes(row)

    def stored(self, index: int, most: int | None = None) -> bytes:
        part, row = self._of(index)
        return part.stored(row, most)

    def _of(self, index: int) -> tuple[Stored, int]:
        return self.parts[self.part[index]], int(self.row[index])


def _check_disjoint(source: Source[LabelledSplit]) -> None:
    owner: dict[int, str] = {}
    for split, held in source.splits.items():
        present = np.unique(held.labels).tolist()
        shared = [c for c in present if c in owner]
        if shared:
            names = [repr(source.class_names[c]) for c in shared]
            raise DataError(
                f"the splits {owner[shared[0]]!r} and {split!r} share {len(shared)} classes"
                f" ({listed(names)}); episodes are evaluated on classes that training never saw:"
                " config.data.episodes.class_split says which split each class belongs to"
            )
        owner |= dict.fromkeys(present, split)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first ``most`` names, and that there are more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@dataclass(frozen=True)
class Decoded:
    """All images of a pool after the transforms.

    Attributes:
        images: uint8 or float32, (turns * images, height, width, channels): all of them, then all
            turned by 90 degrees, and so on. Corrupt ones are black.
        valid: False for the corrupt ones, (images,).
        problems: the name of each corrupt one, and what is wrong with it.
    """

    images: np.ndarray
    valid: np.ndarray
    problems: dict[str, str]


def decode(examples: Examples, turns: int) -> Decoded:
    """Reads and transforms all images of ``examples``, in threads.

    Args:
        examples: of a pool; the transforms are not random.
        turns: 4 to append copies turned by 90, 180 and 270 degrees, 1 for none.

    Raises:
        DataError: an image is corrupt and not to be skipped, or differs in size from the others.
    """
    total = len(examples.split)
    images = np.zeros((turns * total, *examples.shape), examples.dtype)
    valid = np.ones(total, bool)
    problems: dict[str, str] = {}

    def stretch(start: int) -> None:
        rng = np.random.default_rng(0)  # unused, as the transforms are not random
        for index in range(start, min(start + _DECODED_AT_ONCE, total)):
            try:
                images[index] = examples.image(index, rng)
            except CorruptImage as error:
                valid[index] = False
                problems[examples.split.name(index)] = str(error)

    with ThreadPoolExecutor(min(_MAX_THREADS, process_cores())) as threads:
        list(threads.map(stretch, range(0, total, _DECODED_AT_ONCE)))
    for turn in range(1, turns):
        images[turn * total : (turn + 1) * total] = np.rot90(images[:total], turn, axes=(1, 2))
    return Decoded(images, valid, problems)
