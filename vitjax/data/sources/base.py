"""What a source is, the registry of sources, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np

from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.core.validation import Bounds
from vitjax.data.class_order import ClassList, Match, RenumberedSplit
from vitjax.data.errors import DataError
from vitjax.data.identity import (
    LEARNED,
    Identified,
    Identity,
    class_digest,
    digest_of,
    of_array,
)
from vitjax.data.sample import Sample

# Constructors of a `Source`. Facts: ``target``, as of `vitjax.data.dataset.Dataset` (default
# "class"); ``episodic=True`` for what is not a `Source`, and makes episodes of its own: a
# `vitjax.data.episodes.loader.Family`.
SOURCES: Registry[Callable[..., Any]] = Registry("data source")

register = SOURCES.register

Channels = Literal[1, 3]
HeldOut = Annotated[float, Bounds(at_least=0, below=1)]  # fraction of the examples


class Split(Protocol):
    """A sequence of samples that can be read in any order.

    Worker processes receive a pickled copy, and several threads read at once.
    """

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """The sample at ``index``.

        Raises:
            CorruptImage: it cannot be read or decoded; the message says what and why.
            DataError: its parts do not go together.
        """
        ...

    def name(self, index: int) -> str:
        """What errors call the sample at ``index``, such as its file."""
        ...


class LabelledSplit(Split, Protocol):
    """A `Split` whose samples have a label each: for the targets ``"class"`` and ``"number"``."""

    @property
    def labels(self) -> np.ndarray:
        """Labels of all samples, found without decoding an image.

        Class indices, int32 of shape (examples,); or float32 of shape (examples,) or (examples,
        numbers).
        """
        ...


class SizedSplit(Split, Protocol):
    """A `Split` whose images may differ in size: for the target ``"mask"``."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the sample at ``index``, found without decoding it."""
        ...


class Stored(ABC):
    """A `Split` whose examples can be compared and measured without decoding them.

    Derive from it where that is possible: ``vitjax data`` then reports image sizes and examples
    that occur in two splits.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """As of `Split`."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image at ``index``.

        Raises:
            CorruptImage: it cannot be read.
        """

    @abstractmethod
    def stored_bytes(self, index: int) -> int:
        """The length of `stored`, found without reading it; raises OSError if it is not there."""

    @abstractmethod
    def stored(self, index: int, most: int | None = None) -> bytes:
        """What the image at ``index`` is read from; raises OSError if it is not there.

        Args:
            index: of the example.
            most: return only the first bytes, at most this many; None for all.
        """


AnySplit = TypeVar("AnySplit", bound=Split, covariant=True)


@dataclass(frozen=True)
class Source(Generic[AnySplit]):
    """Named splits of one set of samples.

    Attributes:
        splits: split name ("train", and "val" and "test" if they exist) to `Split`.
        class_names: name of each class, which class indices point into; with target ``"number"``,
            of each number.
        example_weights: for splits whose examples count differently in sampling, a weight at least
            0 of each example, float64 of shape (examples,).
        notes: what was understood of the files, in words, one line each.
    """

    splits: Mapping[str, AnySplit]
    class_names: tuple[str, ...]
    example_weights: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def split(self, name: str) -> AnySplit:
        """The split called ``name``.

        Raises:
            DataError: it does not exist; the message names those that do.
        """
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise DataError(
                f"no split {name!r}{near_match(name, self.splits)} (the source has: {known})"
            )
        return self.splits[name]

    @property
    def class_list(self) -> ClassList:
        """The classes, in the order of their numbers."""
        return ClassList(self.class_names)

    def identity(self, splits: Sequence[str] = LEARNED) -> dict[str, Any]:
        """What the examples of ``splits`` are, as of `vitjax.data.Dataset.identity`."""
        return {
            name: _identity(split, self.class_names, self.example_weights.get(name))
            for name, split in self.splits.items()
            if name in splits
        }

    def in_class_order(self, match: Match) -> Self:
        """The same samples, whose labels are the numbers of a run's classes.

        Args:
            match: the number of each class in the run.
        """
        splits: Mapping[str, Any] = self.splits
        if not match.same:
            splits = {name: RenumberedSplit(each, match.numbers) for name, each in splits.items()}
        return replace(self, splits=splits, class_names=match.known.names)


def _identity(split: Any, class_names: Sequence[str], weights: np.ndarray | None) -> dict[str, Any]:
    found: dict[str, Any] = {"examples": len(split)}
    own = split.split if isinstance(split, RenumberedSplit) else split
    if isinstance(own, Identified):
        digest, folders, labels = own.identity()
        found |= {"digest": digest, "folders": {name: list(f) for name, f in folders.items()}}
        labels = None if labels is None else np.asarray(labels)
        if labels is not None and np.issubdtype(labels.dtype, np.integer):
            # A split in the order of a run's classes has other numbers.
            if isinstance(split, RenumberedSplit):
                labels = np.asarray(split.numbers, np.int32)[labels]
            found["labels"] = class_digest(labels, class_names)
        elif labels is not None:
            found["labels"] = digest_of(labels)
    if weights is not None:
        found["weights"] = digest_of(weights)
    return found


@dataclass(frozen=True)
class ArraySplit(Stored, Identified):
    """A `LabelledSplit` over arrays in memory.

    Attributes:
        images: uint8 or float32 of shape (examples, height, width, channels).
        labels: class indices, int32 of shape (examples,); or float32 of shape (examples,) or
            (examples, numbers).
        origin: what errors call the arrays.
    """

    images: np.ndarray
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Sample:
        """The sample at ``index``; its image is a view."""
        return Sample(self.images[index], self.labels[index])

    def name(self, index: int) -> str:
        """The array and the row."""
        return f"{self.origin}[{index}]"

    def size(self, index: int) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.images.shape[1:3]
        return height, width

    def stored_bytes(self, index: int) -> int:
        """The bytes of the image's array."""
        return self.images[0].nbytes

    def stored(self, index: int, most: int | None = None) -> bytes:
        """The image's array."""
        return self.images[index].tobytes()[:most]

    def identity(self) -> Identity:
        """Shape, dtype and content of the images, and the labels."""
        return of_array(self.images)._replace(labels=self.labels)


def hold_out(
    labels: np.ndarray | Sequence[int],
    count: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two with the same fraction of every class, up to rounding.

    Each class gives its exact fraction rounded down, and the classes with the largest remainders
    one more, until ``count`` are held out. A class never gives its last example.

    Args:
        labels: class indices, (examples,).
        count: number of examples to hold out.
        seed: selects them; the same seed and labels always give the same split.
        groups: (examples,), equal for examples that stay together, such as those of one file. The
            number of examples is then as near to ``count`` as they allow, and not 0 unless no group
            can go. None for examples that are all on their own, and where all groups differ the
            result is the same.

    Returns:
        Two sorted index arrays, int64: those kept and those held out.

    Raises:
        DataError: ``count`` is negative or would leave a class without an example.
    """
    labels = np.asarray(labels)
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 0 <= count <= len(labels) - len(classes):
        raise DataError(
            f"cannot hold out {count} of {len(labels)} examples of {len(classes)} classes:"
            f" every class keeps at least one, so 0 to {len(labels) - len(classes)} can go"
        )
    exact = count * sizes / max(len(labels), 1)
    quota = np.minimum(np.floor(exact).astype(np.int64), sizes - 1)
    while (missing := count - int(quota.sum())) > 0:
        # A class with one example left gives none; the stable sort breaks ties by index.
        remainder = np.where(quota < sizes - 1, exact - quota, -np.inf)
        order = np.argsort(-remainder, kind="stable")[
            : min(missing, int(np.sum(quota < sizes - 1)))
        ]
        quota[order] += 1
    generator = np.random.default_rng(seed)
    ordered = [generator.permutation(np.flatnonzero(inverse == c)) for c in range(len(classes))]
    if groups is None or len(np.unique(groups)) == len(labels):
        held = [order[: quota[c]] for c, order in enumerate(ordered)]
    else:
        held = _held_groups(ordered, quota, sizes, inverse, groups)
    out = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out


def _held_groups(
    ordered: Sequence[np.ndarray],
    quota: np.ndarray,
    sizes: np.ndarray,
    inverse: np.ndarray,
    groups: np.ndarray,
) -> list[np.ndarray]:
    """The examples of the groups that are held out.

    Args:
        ordered: the examples of each class, in the order in which they are taken.
        quota: how many of each class are wanted.
        sizes: how many each class has.
        inverse: the class of each example.
        groups: of each example.
    """
    _, number = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    taken: dict[int, int] = {}  # groups, with their number of examples
    had = np.zeros_like(sizes)  # of each class

    def spare(candidates: Sequence[int], below: float = np.inf) -> Iterator[int]:
        """The groups with fewer examples than ``below`` that leave each class an example."""
        for group in candidates:
            classes, counts = np.unique(inverse[members[group]], return_counts=True)
            small = len(members[group]) < below and group not in taken
            if small and (had[classes] + counts < sizes[classes]).all():
                yield group

    def take_group(group: int) -> None:
        taken[group] = len(members[group])
        np.add.at(had, inverse[members[group]], 1)

    missing = 0
    candidates: list[int] = []
    for order, wanted in zip(ordered, quota.tolist(), strict=True):
        # What a class cannot give in whole groups, the next one gives.
        missing += wanted
        candidates = list(dict.fromkeys(number[order].tolist())) if missing > 0 else []
        for group in candidates:
            if missing <= 0:
                break
            for fitting in spare([group], missing + 1):
                take_group(fitting)
                missing -= taken[fitting]
        # A larger one is nearer than none if it has fewer than twice as many.
        nearest = min(spare(candidates, 2 * missing), key=lambda g: len(members[g]), default=None)
        if nearest is not None:
            take_group(nearest)
            missing -= taken[nearest]
    if not taken and quota.any():
        everything = dict.fromkeys(number[np.concatenate(ordered)].tolist())
        smallest = min(spare(list(everything)), key=lambda g: len(members[g]), default=None)
        if smallest is not None:
            take_group(smallest)
    return [members[group] for group in taken]


def take(split: ArraySplit, indices: np.ndarray) -> ArraySplit:
    """The examples of ``split`` at ``indices``, as a split of its own."""
    return ArraySplit(split.images[indices], split.labels[indices], split.origin)
