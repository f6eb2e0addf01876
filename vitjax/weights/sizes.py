"""Checks of sizes of images, patches and grids in arguments and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitjax.core.machine import OVERRIDE, limited
from vitjax.weights.errors import WeightsError

# Of one image that a model reads: 8192 x 8192 pixels, and some thousands of spectral bands.
_MOST_PIXELS = 2**26
_MOST_CHANNELS = 2**14


def whole(values: Any, count: int, what: str) -> tuple[int, ...]:
    """``values``, or a single one, as a tuple of ``count`` whole numbers above 0.

    Raises:
        WeightsError: they are no such numbers; the message begins with ``what``.
    """
    sides = tuple(values) if isinstance(values, list | tuple | np.ndarray) else (values,)
    if len(sides) != count or not all(_counts(side) for side in sides):
        right = "a whole number" if count == 1 else f"{count} whole numbers"
        raise WeightsError(f"{what} is {values!r}; it should be {right} above 0")
    return tuple(map(int, sides))


def pair(values: Any, what: str) -> tuple[int, int]:
    """(height, width) from two whole numbers, or from one for both.

    Raises:
        WeightsError: as `whole` does.
    """
    height, width = whole([values, values] if _counts(values) else values, 2, what)
    return height, width


def image(shape: Sequence[int], what: str) -> None:
    """Checks that images of ``shape``, (height, width, channels), are not absurdly large.

    Raises:
        WeightsError: they are; the message begins with ``what``.
    """
    if len(shape) != 3 or not limited():
        return
    height, width, channels = shape
    if height * width > _MOST_PIXELS or channels > _MOST_CHANNELS:
        raise WeightsError(
            f"{what}: images of {height} x {width} pixels with {channels} channels; they should"
            f" have at most {_MOST_PIXELS:,} pixels and {_MOST_CHANNELS:,} channels"
            f" ({OVERRIDE})"
        )


def grid_of(patch_size: Any, shape: Sequence[int] | None) -> tuple[int, int] | None:
    """(rows, columns) of patches in images of ``shape``; None if either is unknown."""
    if patch_size is None or shape is None:
        return None
    patch = np.broadcast_to(patch_size, 2)
    return int(shape[0] // patch[0]), int(shape[1] // patch[1])


def _counts(value: Any) -> bool:
    whole_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole_number and bool(value > 0)
