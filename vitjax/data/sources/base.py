"""What a source is, the registry of sources, and the split that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.data.errors import DataError

# Constructors of a `Source`. Facts: ``target``, as of `vitjax.data.dataset.Dataset` (default
# "class"); ``episodic=True`` for what is not a `Source`, and makes episodes of its own: a
# `vitjax.data.episodes.regression.Family`.
SOURCES: Registry[Callable[..., Any]] = Registry("data source")

register = SOURCES.register


class Split(Protocol):
    """A sequence of labelled images that can be read in any order.

    Worker processes receive a pickled copy, and several threads read at once.
    """

    @property
    def labels(self) -> np.ndarray:
        """Class indices, int32 of shape (len(self),), found without decoding an image."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The image at ``index``, uint8 or float32 of (height, width, channels), and its label.

        Raises:
            CorruptImage: it cannot be read or decoded; the message says what and why.
        """
        ...

    def name(self, index: int) -> str:
        """What a person calls the example at ``index``: its file, say."""
        ...


@dataclass(frozen=True)
class Source:
    """Named splits of one set of labelled images.

    Attributes:
        splits: split name ("train", and as there are any "val" and "test") to `Split`.
        class_names: the name of each class; labels are indices into it.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]

    def split(self, name: str) -> Split:
        """The split called ``name``.

        Raises:
            DataError: there is none; the message names those that exist.
        """
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise DataError(
                f"no split {name!r}{near_match(name, self.splits)} (the source has: {known})"
            )
        return self.splits[name]


@dataclass(frozen=True)
class ArraySplit:
    """A `Split` over arrays in memory.

    Attributes:
        images: uint8 or float32 of shape (examples, height, width, channels).
        labels: int32 of shape (examples,).
        origin: what errors call the arrays.
    """

    images: np.ndarray
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The image at ``index``, a view of shape (height, width, channels), and its label."""
        return self.images[index], int(self.labels[index])

    def name(self, index: int) -> str:
        """The array and the row."""
        return f"{self.origin}[{index}]"


def hold_out(
    labels: np.ndarray | Sequence[int], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two with the same share of every class, up to rounding.

    Each class gives its exact share rounded down, and the classes with the largest remainders one
    more, until ``count`` are held out. A class never gives its last example.

    Args:
        labels: class indices, (examples,).
        count: how many examples to hold out.
        seed: decides which ones; the same seed and labels always give the same split.

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
    share = count * sizes / max(len(labels), 1)
    quota = np.minimum(np.floor(share).astype(np.int64), sizes - 1)
    while (missing := count - int(quota.sum())) > 0:
        # A class with one example left to itself stands back; the stable sort breaks ties by index.
        remainder = np.where(quota < sizes - 1, share - quota, -np.inf)
        order = np.argsort(-remainder, kind="stable")[
            : min(missing, int(np.sum(quota < sizes - 1)))
        ]
        quota[order] += 1
    generator = np.random.default_rng(seed)
    held = [
        generator.permutation(np.flatnonzero(inverse == c))[: quota[c]] for c in range(len(classes))
    ]
    out = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out


def count_of(fraction: float, examples: int, key: str) -> int:
    """How many of ``examples`` a ``fraction`` given as keyword ``key`` is.

    Raises:
        DataError: it is not in [0, 1).
    """
    if not isinstance(fraction, int | float) or not 0 <= fraction < 1:
        raise DataError(
            f"{key} is {fraction!r}; it is a share of the examples, at least 0, below 1"
        )
    return round(fraction * examples)


def take(split: ArraySplit, indices: np.ndarray) -> ArraySplit:
    """The examples of ``split`` at ``indices``, as a split of its own."""
    return ArraySplit(split.images[indices], split.labels[indices], split.origin)


def mapping(value: Any, key: str) -> dict[str, Any]:
    """``value`` of keyword ``key`` as a dict.

    Raises:
        DataError: it is not a mapping.
    """
    try:
        return {str(k): value[k] for k in value.keys()}  # noqa: SIM118 (a ConfigDict is no Mapping)
    except AttributeError:
        raise DataError(f"{key} is {value!r}; it maps our split names to the data set's") from None
