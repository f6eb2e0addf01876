"""Limits on what a file of weights may ask for, checked before anything is made of it.

A size in a file is only a claim: a few bytes can claim an array, a name or a number of them that
fills the memory. All sums are of Python's integers, which do not overflow.

VITJAX_MODEL_LIMITS=off removes all limits that a sound file could exceed, see `refuse`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitjax.core.machine import OVERRIDE, limited
from vitjax.core.text import is_printable, printable
from vitjax.weights.errors import WeightsError

# Weights hardly compress, but for pruned ones. A file that exceeds both is made to fill the memory.
_MOST_BYTES = 2**27
_MOST_GROWTH = 100
# The largest models have a few thousand arrays, whose names have about a hundred characters.
_MOST_ARRAYS = 2**16
_MOST_CHARACTERS = 2**24
# Chunks of arrays in HDF5, each of which takes kilobytes. Large models have some thousands.
_MOST_CHUNKS = 2**17
# Steps of making what a file lists: 50,000 for a state dict of a thousand tensors, and more for
# what a training stores beside it, in proportion to its bytes.
_MOST_STEPS = 2**22
_BYTES_PER_STEP = 4
LONGEST_NAME = 1024
# Of NumPy: axes, and bytes of an array.
MOST_AXES = 64
_LARGEST = 2**63 - 1
# Of JSON and tables, which take many times their bytes; the largest models have a few megabytes.
_MOST_PARSED = 2**24


def check_growth(size: int, unpacked: int) -> None:
    """Raises WeightsError if a file of ``size`` bytes would unpack to far more than weights do."""
    if unpacked > max(_MOST_BYTES, _MOST_GROWTH * size):
        refuse(f"its {size:,} bytes would unpack to {unpacked:,}, which weights hardly ever do")


def check_parsed(size: int, what: str) -> None:
    """Raises WeightsError if ``what``, a text or table to be parsed, has too many bytes."""
    if size > _MOST_PARSED:
        refuse(f"{what} has {size:,} bytes; the limit is {_MOST_PARSED:,}")


def refuse(words: str) -> None:
    """Raises WeightsError for what is far larger than in any known file, unless limits are off."""
    if limited():
        raise WeightsError(f"refused: {words} ({OVERRIDE})")


class Budget:
    """What may still be made of a file, or of several that are one.

    Args:
        size: bytes of all these files.
    """

    def __init__(self, size: int):
        self.size = size
        self._bytes = 0
        self._arrays: set[str] = set()
        self._chunks = 0
        self._steps = 0
        self._most_steps = max(_MOST_STEPS, size // _BYTES_PER_STEP)
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
            refuse(f"the names of its arrays have more than {_MOST_CHARACTERS:,} characters")
        return name

    def steps(self, number: int) -> None:
        """Counts steps of making what a file lists, each of constant work.

        Raises:
            WeightsError: they are too many.
        """
        self._steps += number
        if self._steps > self._most_steps:
            refuse(f"its list of tensors takes more than {self._most_steps:,} steps")

    def chunks(self, name: str, shape: Sequence[int], sides: Sequence[int]) -> None:
        """Counts the chunks with these ``sides`` in which an array is stored.

        Raises:
            WeightsError: they are too many.
        """
        self._chunks += math.prod(-(-n // m) for n, m in zip(shape, sides, strict=True))
        if self._chunks > _MOST_CHUNKS:
            refuse(
                f"{name} of shape {tuple(shape)} is stored in chunks of shape {tuple(sides)},"
                f" so that it has {self._chunks:,} chunks, of at most {_MOST_CHUNKS:,}"
            )

    def array(self, name: str, shape: Sequence[int], itemsize: int) -> None:
        """Counts an array before it is made.

        Raises:
            WeightsError: no array has this shape, another one has this name, or it makes too many
                arrays or bytes.
        """
        if not all(type(side) is int and side >= 0 for side in shape):
            raise WeightsError(f"is damaged: {name} has a shape of other things than sizes")
        if len(shape) > MOST_AXES:
            raise WeightsError(f"is damaged: {name} has {len(shape)} axes, of at most {MOST_AXES}")
        if name in self._arrays:
            raise WeightsError(f"is damaged: it has several arrays named {name}")
        self._arrays.add(name)
        if len(self._arrays) > _MOST_ARRAYS:
            refuse(f"it has more than {_MOST_ARRAYS:,} arrays")
        # An empty array has no bytes, but what is derived from its other axes may.
        claimed = math.prod(max(side, 1) for side in shape) * max(itemsize, 1)
        if max(shape, default=0) > _LARGEST or (0 in shape and claimed > _LARGEST):
            raise WeightsError(f"is damaged: {name} has a shape that no array has")
        check_growth(self.size, self._bytes + claimed)
        self._bytes += 0 if 0 in shape else claimed


def is_name(name: str) -> bool:
    """Whether ``name`` can be shown as that of an array or a record."""
    return len(name) <= LONGEST_NAME and is_printable(name)


def check_name(name: str) -> None:
    """Raises WeightsError if the name of an array or a record is not one that can be shown."""
    if len(name) > LONGEST_NAME:
        raise WeightsError(
            f"refused: a name in it has {len(name):,} characters, of at most {LONGEST_NAME:,}:"
            f" {printable(name[:40])}..."
        )
    if not is_name(name):
        raise WeightsError(f"refused: a name in it has control characters: {printable(name)}")
