"""Samplers that draw each example independently, some more often than others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.core.validation import Fraction, NonNegativeFloat
from vitjax.data.samplers.base import Sampler, Training, register
from vitjax.data.samplers.streams import Stream
from vitjax.data.share import WHERE


@dataclass(frozen=True, eq=False)
class Weighted(Sampler):
    """Draws with replacement, example i with a probability proportional to its weight.

    Attributes:
        seed: of the draws.
        cumulative: sums of the weights up to each example, divided by the sum of all, (examples,).
    """

    seed: int
    cumulative: np.ndarray

    @classmethod
    def of(cls, seed: int, weights: np.ndarray) -> Weighted:
        """The sampler for ``weights``, (examples,), at least one above 0."""
        sums = np.cumsum(weights, dtype=np.float64)
        return cls(seed, sums / sums[-1])

    def indices(self, positions: range) -> np.ndarray:
        """The examples at ``positions``."""
        drawn = Stream(self.seed, "weighted").uniforms(positions.start, len(positions), 1)
        return np.searchsorted(self.cumulative, drawn[:, 0], side="right")


@register("weighted")
def weighted(training: Training, class_weights: Mapping[str, NonNegativeFloat]) -> Weighted:
    """Draws an example with a probability proportional to the weight of its class.

    Args:
        training: what is sampled.
        class_weights: class name to the weight of each of its examples; 1 for classes not named.

    Raises:
        ConfigError: a name is not a class, or all examples have weight 0.
    """
    classes = training.classes("weighted")
    of_class = np.ones(len(training.class_names))
    key = f"{WHERE}.sampler.class_weights"
    for name, weight in class_weights.items():
        if name not in training.class_names:
            raise ConfigError(
                f"{key}: {name!r} is not a class{near_match(name, training.class_names)} (classes:"
                f" {', '.join(training.class_names)})"
            )
        of_class[training.class_names.index(name)] = weight
    weights = of_class[classes]
    if not weights.any():
        raise ConfigError(f"{key} gives all examples the weight 0; one must be above 0")
    return Weighted.of(training.seed, weights)


@register("class_balanced")
def class_balanced(training: Training, power: Fraction = 0.0) -> Weighted:
    """Draws classes equally often, and the examples of a class equally often.

    Args:
        training: what is sampled.
        power: a class of n examples is drawn with a probability proportional to n^power: 0 is
            balanced, 0.5 square-root sampling, 1 draws all examples equally often.
    """
    classes = training.classes("class_balanced")
    counts = np.bincount(classes, minlength=len(training.class_names)).astype(np.float64)
    return Weighted.of(training.seed, counts[classes] ** (power - 1))
