"""Images with a class for every pixel: what sources of segmentation give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.sources.base import Source

# The class index of pixels that count nowhere: not in a loss, not in a metric.
IGNORE = -1
_GREATEST = 65535


@dataclass(frozen=True)
class Pair:
    """An image and what its pixels are.

    Attributes:
        image: uint8, or float32 in [0, 1], (height, width, channels).
        label: class indices, int32 of shape (height, width); `IGNORE` where a pixel counts nowhere.
        instances: which object a pixel belongs to, int32 of shape (height, width), 0 for none; None
            where the source does not know.
        weight: what a pixel's loss is multiplied by, float32 of shape (height, width); None for 1.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None = None
    weight: np.ndarray | None = None


class PairSplit(Protocol):
    """A sequence of pairs that can be read in any order.

    Worker processes receive a pickled copy, and several threads read at once.
    """

    def __len__(self) -> int: ...

    def read(self, index: int) -> Pair:
        """The pair at ``index``.

        Raises:
            CorruptImage: its image or mask cannot be read or decoded.
            DataError: the two do not go together, or the mask has a value that is no class.
        """
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the pair at ``index``, found without decoding it."""
        ...

    def name(self, index: int) -> str:
        """What a person calls the example at ``index``: its image's file, say."""
        ...


@dataclass(frozen=True)
class PairSource(Source):
    """Named splits of one set of pairs.

    Attributes:
        splits: split name ("train", and as there are any "val" and "test") to `PairSplit`.
        class_names: the name of each class; labels are indices into it.
        channels: of the images, 1 or 3.
        values: of each class, the number that stands for it in the source's own masks; None where
            that is the class index.
    """

    splits: Mapping[str, PairSplit]  # type: ignore[assignment]
    channels: int = 1
    values: tuple[int, ...] | None = None

    def split(self, name: str) -> PairSplit:  # type: ignore[override]
        """The split called ``name``.

        Raises:
            DataError: there is none; the message names those that exist.
        """
        return super().split(name)  # type: ignore[return-value]


@dataclass(frozen=True)
class Classes:
    """Which values of a mask are which classes.

    Attributes:
        values: of each class, in the order of class indices.
        ignore: the value of pixels that count nowhere, or None.
    """

    values: tuple[int, ...]
    ignore: int | None = None

    def __post_init__(self) -> None:
        whole = [v for v in self.values if isinstance(v, int) and not isinstance(v, bool)]
        if len(whole) != len(self.values) or len(set(whole)) != len(whole) or len(whole) < 2:
            raise DataError(
                f"classes is {self.values!r}; it lists the values of a mask, two or more whole"
                " numbers that differ, such as (0, 255)"
            )
        if strange := [v for v in self.values if not 0 <= v <= _GREATEST]:
            raise DataError(
                f"classes has the value {strange[0]}; a mask's are 0 to {_GREATEST}, those of PNG"
            )
        if self.ignore in self.values:
            raise DataError(f"ignore is {self.ignore}, which classes has too: {self.values}")

    def indices(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Class indices of ``mask``: int32 of its shape, `IGNORE` where it says so.

        Args:
            mask: whole numbers, (height, width).
            name: what errors call it.

        Raises:
            DataError: it has a value that is no class.
        """
        order = np.argsort(self.values)
        known = np.asarray(self.values)[order]
        place = np.minimum(np.searchsorted(known, mask), len(known) - 1)
        label = order.astype(np.int32)[place]
        strange = known[place] != mask
        if self.ignore is not None:
            ignored = mask == self.ignore
            label[ignored] = IGNORE
            strange &= ~ignored
        if strange.any():
            found, counts = np.unique(mask[strange], return_counts=True)
            worst = int(found[np.argmax(counts)])
            more = f" and {len(found) - 1} more such values" if len(found) > 1 else ""
            raise DataError(
                f"{name}: has the value {worst} in {counts.max()} pixels{more}, which is no class"
                f" (classes: {', '.join(map(str, self.values))}; ignored:"
                f" {'nothing' if self.ignore is None else self.ignore}); add it to classes, or"
                f" ignore={worst} leaves its pixels out"
            )
        return label


def check_pair(image: np.ndarray, mask: np.ndarray, image_name: str, mask_name: str) -> None:
    """Checks that an image and its mask are of one size.

    Raises:
        DataError: they are not; the message has both sizes.
    """
    check_sizes(image.shape[:2], mask.shape[:2], image_name, mask_name)


def check_sizes(
    image: tuple[int, ...], mask: tuple[int, ...], image_name: str, mask_name: str
) -> None:
    """As `check_pair`, of (height, width) alone."""
    if tuple(image) != tuple(mask):
        raise DataError(
            f"{image_name} is {image[0]}x{image[1]} (height x width) and its mask {mask_name} is"
            f" {mask[0]}x{mask[1]}; they have to be of one size"
        )


def named(values: tuple[int, ...], names: object, where: str) -> tuple[str, ...]:
    """The names of classes: those given, or their values as text.

    Raises:
        DataError: there are not as many names as classes.
    """
    if names is None:
        return tuple(map(str, values))
    if not isinstance(names, list | tuple) or len(names) != len(values):
        raise DataError(
            f"{where}: class_names is {names!r}; there are {len(values)} classes, of the values"
            f" {', '.join(map(str, values))}"
        )
    return tuple(map(str, names))
