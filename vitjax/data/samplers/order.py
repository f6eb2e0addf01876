"""Samplers that pass through all examples: shuffled for training, in order for evaluation."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from vitjax.data.samplers.base import Sampler, Training, register

_SHUFFLE = 0  # child of the seed


@functools.lru_cache(maxsize=2)  # an epoch, and the next one for a batch that crosses its end
def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order of one epoch: a permutation of ``range(examples)``, uniform over all of them."""
    order = np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(examples)
    return order.astype(np.int32)  # half the memory, for ImageNet-21k


@dataclass(frozen=True)
class Shuffled(Sampler):
    """Epochs that are shuffled independently and follow each other without a gap.

    Every ``examples`` positions in a row, counted from the first, are each example once.

    Attributes:
        seed: of the order.
        examples: the number of examples.
    """

    seed: int
    examples: int

    def indices(self, positions: range) -> np.ndarray:
        """The examples at ``positions``."""
        indices = np.empty(len(positions), np.int64)
        row = 0
        while row < len(positions):
            epoch, offset = divmod(positions[row], self.examples)
            order = epoch_order(self.seed, epoch, self.examples)
            order = order[offset : offset + len(positions) - row]
            indices[row : row + len(order)] = order
            row += len(order)
        return indices


@register("shuffled")
def shuffled(training: Training) -> Shuffled:
    """Epochs, each in an order of its own: every example once per epoch."""
    return Shuffled(training.seed, len(training.split))


@dataclass(frozen=True)
class InOrder(Sampler):
    """Position i is example i."""

    def indices(self, positions: range) -> np.ndarray:
        """The positions themselves."""
        return np.asarray(positions, np.int64)
