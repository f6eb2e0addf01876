"""Limits on what a file of weights may ask for, checked before anything is made of it.

A size in a file is only a claim: a few bytes can claim an array, a name or a number of them that
fills the memory. All sums are of Python's integers, which do not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitjax.core.text import printable
from vitjax.weights.errors import WeightsError

# Weights hardly compress. A file that exceeds both limits is made to fill the memory.
_MOST_BYTES = 2**27
_MOST_GROWTH = 100
# The largest models have a few thousand arrays, whose names have about a hundred characters.
_MOST_ARRAYS = 2**16
_MOST_CHARACTERS = 2**24
LONGEST_NAME = 1024
# Of NumPy: axes, and bytes of an array.
MOST_AXES = 64
_LARGEST = 2**63 - 1
# Of JSON and tables, which take many times their bytes; the largest models have a few megabytes.
_MOST_PARSED = 2**24


def check_growth(size: int, unpacked: int) -> None:
    """Raises WeightsError if a file of ``size`` bytes would unpack to far more than weights do."""
    if unpacked > max(_MOST_BYTES, _MOST_GROWTH * size):
        raise WeightsError(
            f"refused: its {size:,} bytes would unpack to {unpacked:,}, which weights never do"
        )


def check_parsed(size: int, what: str) -> None:
    """Raises WeightsError if ``what``, a text or table to be parsed, has too many bytes."""
    if size > _MOST_PARSED:
        raise WeightsError(f"refused: {what} has {size:,} bytes; the limit is {_MOST_PARSED:,}")


class Budget:
    """What may still be made of a file, or of several that are one.

    Args:
        size: bytes of all these files.
    """

    def __init__(self, size: int):
        self.size = size
        self._bytes = 0
        self._arrays = 0
        self._characters = 0

    def name(self, name: str) -> str:
        """Counts a name, and returns it.

        Raises:
            WeightsError: it is too long or has control characters, or the names have too many
                characters in total.
        """
        check_name(name)
        self._characters += len(name)
        if self._characters > _MOST_CHARACTERS:
            raise WeightsError(
                f"refused: the names of its arrays have more than {_MOST_CHARACTERS:,} characters"
            )
        return name

    def array(self, name: str, shape: Sequence[int], itemsize: int) -> None:
        """Counts an array before it is made.

        Raises:
            WeightsError: no array has this shape, or it makes too many arrays or bytes.
        """
        if not all(type(side) is int and side >= 0 for side in shape):
            raise WeightsError(f"is damaged: {name} has a shape of other things than sizes")
        if len(shape) > MOST_AXES:
            raise WeightsError(f"is damaged: {name} has {len(shape)} axes, of at most {MOST_AXES}")
        self._arrays += 1
        if self._arrays > _MOST_ARRAYS:
            raise WeightsError(f"refused: it has more than {_MOST_ARRAYS:,} arrays")
        # An empty array has no bytes, but what is derived from its other axes may.
        claimed = math.prod(max(side, 1) for side in shape) * max(itemsize, 1)
        if max(shape, default=0) > _LARGEST or (0 in shape and claimed > _LARGEST):
            raise WeightsError(f"is damaged: {name} has a shape that no array has")
        check_growth(self.size, self._bytes + claimed)
        self._bytes += 0 if 0 in shape else claimed


def check_name(name: str) -> None:
    """Raises WeightsError if the name of an array or a record is not one that can be shown."""
    if len(name) > LONGEST_NAME:
        raise WeightsError(
            f"refused: a name in it has {len(name):,} characters, of at most {LONGEST_NAME:,}:"
            f" {printable(name[:40])}..."
        )
    # The first is far quicker, and stricter.
    if not name.isprintable() and printable(name) != name:
        raise WeightsError(f"refused: a name in it has control characters: {printable(name)}")
