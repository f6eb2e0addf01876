"""Random numbers by position: pure functions of (seed, purpose, position)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_PHILOX_BLOCK = 4  # numbers that one step of the counter gives


@dataclass(frozen=True)
class Stream:
    """Uniform random numbers, the same count for each of endlessly many positions.

    The numbers of all positions are one stream of a counter-based generator, cut into pieces of one
    length. So those of a position follow from (seed, purpose, position) alone, and those of many
    positions in a row are drawn by a single call.

    Attributes:
        seed: an integer, at least 0.
        purpose: what the numbers are for, such as "train" or "evaluate test". Streams of different
            purposes are independent.
    """

    seed: int
    purpose: str

    def key(self) -> np.ndarray:
        """128 bits as uint64 of shape (2,), from the seed and the purpose."""
        words = [self.seed, zlib.crc32(self.purpose.encode())]
        return np.random.SeedSequence(words).generate_state(2, np.uint64)

    def uniforms(self, first: int, positions: int, count: int) -> np.ndarray:
        """The numbers of positions ``first`` to ``first + positions - 1``.

        Args:
            first: the first position.
            positions: the number of positions.
            count: numbers of a position, the same at every call.

        Returns:
            float64 in [0, 1) of shape (positions, count).
        """
        blocks = -(-count // _PHILOX_BLOCK)
        bits = np.random.Philox(key=self.key(), counter=first * blocks)
        numbers = np.random.Generator(bits).random((positions, blocks * _PHILOX_BLOCK))
        return numbers[:, :count]


def among(uniforms: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Integers from ``span[0]`` to ``span[1]``, both included, int64 of the same shape."""
    low, high = span
    return low + (uniforms * (high - low + 1)).astype(np.int64)


def draw_without_replacement(uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Ordered draws from ``range(size)``, all orders of all subsets equally likely.

    The first steps of a Fisher-Yates shuffle, for all rows at once.

    Args:
        uniforms: one number in [0, 1) for each draw, (rows, draws).
        sizes: of each row, at least ``draws``, (rows,).

    Returns:
        int32 of shape (rows, draws); no number occurs twice in a row.
    """
    rows, draws = uniforms.shape
    cards = np.tile(np.arange(sizes.max(), dtype=np.int32), (rows, 1))
    row = np.arange(rows)
    for place in range(draws):
        other = place + (uniforms[:, place] * (sizes - place)).astype(np.int64)
        drawn = cards[row, other]
        cards[row, other] = cards[:, place]
        cards[:, place] = drawn
    return cards[:, :draws]
