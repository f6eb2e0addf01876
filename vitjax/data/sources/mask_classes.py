"""Sources of images with a class for every pixel, and what the values of their masks mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from vitjax.data.class_order import ClassList, Match
from vitjax.data.errors import DataError
from vitjax.data.sample import IGNORE
from vitjax.data.sources.base import SizedSplit, Source

_GREATEST = 65535


@dataclass(frozen=True)
class MaskSource(Source[SizedSplit]):
    """Named splits of images with masks.

    Attributes:
        splits: split name ("train", and "val" and "test" if they exist) to `SizedSplit`.
        class_names: name of each class, which class indices point into.
        channels: of the images, 1 or 3.
        values: for each class, the value that stands for it in the source's masks; None if that is
            the class index.
    """

    channels: int = 1
    values: tuple[int, ...] | None = None

    @property
    def class_list(self) -> ClassList:
        """The classes and their values in masks."""
        values = range(len(self.class_names)) if self.values is None else self.values
        return ClassList(self.class_names, tuple(values))

    def in_class_order(self, match: Match) -> Self:
        """As of `Source`, with the values of the run's classes."""
        return replace(super().in_class_order(match), values=match.values)


@dataclass(frozen=True)
class Classes:
    """Which values of a mask are which classes.

    Attributes:
        values: of each class, in the order of class indices.
        ignore: value of pixels that do not count, or None.
    """

    values: tuple[int, ...]
    ignore: int | None = None

    def __post_init__(self) -> None:
        integers = [v for v in self.values if isinstance(v, int) and not isinstance(v, bool)]
        distinct = len(set(integers)) == len(integers) == len(self.values)
        if not distinct or len(integers) < 2:
            raise DataError(
                f"classes is {self.values!r}; it must list the values of a mask, two or"
                " more distinct integers, such as (0, 255)"
            )
        if strange := [v for v in self.values if not 0 <= v <= _GREATEST]:
            raise DataError(
                f"classes has the value {strange[0]}; a mask's are 0 to {_GREATEST}, those of PNG"
            )
        if self.ignore in self.values:
            raise DataError(f"ignore is {self.ignore}, which classes has too: {self.values}")

    def indices(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Class indices of ``mask``: int32 of its shape, `IGNORE` where its value is ``ignore``.

        Args:
            mask: integers, (height, width).
            name: what errors call it.

        Raises:
            DataError: it has a value that is not a class.
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
                f"{name}: has the value {worst} in {counts.max()} pixels{more}, which is not a"
                f" class (classes: {', '.join(map(str, self.values))}; ignored:"
                f" {'nothing' if self.ignore is None else self.ignore}); add it to classes, or"
                f" ignore={worst} leaves its pixels out"
            )
        return label


def check_pair(image: np.ndarray, mask: np.ndarray, image_name: str, mask_name: str) -> None:
    """Checks that an image and its mask have the same size.

    Raises:
        DataError: they differ; the message has both sizes.
    """
    check_sizes(image.shape[:2], mask.shape[:2], image_name, mask_name)


def check_sizes(
    image: tuple[int, ...], mask: tuple[int, ...], image_name: str, mask_name: str
) -> None:
    """As `check_pair`, for (height, width) alone."""
    if tuple(image) != tuple(mask):
        raise DataError(
            f"{image_name} is {image[0]}x{image[1]} (height x width) and its mask {mask_name} is"
            f" {mask[0]}x{mask[1]}; they must have the same size"
        )


def named(values: tuple[int, ...], names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The names of classes: those given, or their values as text.

    Raises:
        DataError: the numbers of names and of classes differ.
    """
    if names is None:
        return tuple(map(str, values))
    if len(names) != len(values):
        raise DataError(
            f"{where}: class_names is {names!r}; there are {len(values)} classes, of the values"
            f" {', '.join(map(str, values))}"
        )
    return tuple(map(str, names))
