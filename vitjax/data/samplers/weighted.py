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
def weighted(
    training: Training, class_weights: Mapping[str, NonNegativeFloat] | None = None
) -> Weighted:
    """Draws an example with a probability proportional to its weight.

    That is the example's own weight, where the source has those, times that of its class.

    Args:
        training: what is sampled.
        class_weights: class name to the weight of each of its examples; 1 for classes not named.
            None for sources with a weight for each example.

    Raises:
        ConfigError: there are no weights of either kind, a name is not a class, or all examples
            have weight 0.
    """
    if class_weights is None and training.weights is None:
        raise ConfigError(
            f"{WHERE}.sampler: the key 'class_weights' is missing, and the source has no weight for"
            " each example"
        )
    weights = np.ones(len(training.split)) if training.weights is None else training.weights
    if class_weights is not None:
        weights = weights * _of_classes(training, class_weights)
    if not weights.any():
        raise ConfigError(
            f"{WHERE}.sampler: all examples of train have the weight 0; one must be above 0"
        )
    return Weighted.of(training.seed, weights)


def _of_classes(training: Training, class_weights: Mapping[str, float]) -> np.ndarray:
    """The weight of each example's class, (examples,)."""
    of_class = np.ones(len(training.class_names))
    for name, weight in class_weights.items():
        if name not in training.class_names:
            raise ConfigError(
                f"{WHERE}.sampler.class_weights: {name!r} is not a"
                f" class{near_match(name, training.class_names)} (classes:"
                f" {', '.join(training.class_names)})"
            )
        of_class[training.class_names.index(name)] = weight
    weights: np.ndarray = of_class[training.classes("weighted")]
    return weights


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
