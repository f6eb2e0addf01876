"""Segmentation losses: each returns one number per image of a batch.

The loss of a batch is the mean over its images, so micro-batches and devices add up exactly to the
loss of the complete batch, for any combination of losses.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    call,
    check_keywords,
    check_value,
    validate_fields,
)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The outputs and labels of a batch, which losses compare pixel by pixel.

    Attributes:
        logits: (batch, height, width, outputs); with ``"sigmoid"`` two classes may have a single
            output, that of class 1.
        truth: (batch, height, width, classes), one-hot; ignored pixels may hold any values.
        counted: (batch, height, width), 1 where a pixel counts and 0 where it is ignored.
        weight: (batch, height, width), the weight map of the per-pixel losses.
        activation: ``"softmax"`` over the classes, or one ``"sigmoid"`` per class.
        class_weight: (batch, height, width), the weight of each pixel's class in the per-pixel
            losses, which are weighted means over the pixels of an image; None for equal weights.
    """

    logits: Float[Array, "batch height width outputs"]
    truth: Float[Array, "batch height width classes"]
    counted: Float[Array, "batch height width"]
    weight: Float[Array, "batch height width"]
    activation: Literal["softmax", "sigmoid"]
    class_weight: Float[Array, "batch height width"] | None = None

    def probabilities(self) -> Float[Array, "batch height width classes"]:
        """The probability of each class."""
        return probabilities(self.logits, self.activation)

    def log_likelihoods(self) -> Float[Array, "batch height width decisions"]:
        """The log-probability of the truth, for each decision about a pixel.

        A softmax makes one decision, for the class of the pixel; sigmoids make one per output.
        """
        if self.activation == "softmax":
            logs = jax.nn.log_softmax(self.logits)
            return jnp.sum(logs * self.truth, axis=-1, keepdims=True)
        return jax.nn.log_sigmoid(self.logits * (2 * self.targets() - 1))

    def targets(self) -> Float[Array, "batch height width outputs"]:
        """The truth with one channel per output."""
        return self.truth[..., 1:] if self.logits.shape[-1] == 1 else self.truth

    def mean(self, losses: Float[Array, "batch height width"]) -> Float[Array, "batch"]:
        """``losses`` times the weight map, averaged over the counted pixels of each image.

        With class weights w it is ``sum(w * weight * losses) / sum(w)``.
        """
        if self.class_weight is not None:
            shares = jnp.where(self.counted > 0, self.class_weight, 0)
            weighted = jnp.where(shares > 0, losses * self.weight * shares, 0)
            sums = jnp.sum(shares, axis=(1, 2))
            return jnp.sum(weighted, axis=(1, 2)) / jnp.where(sums > 0, sums, 1)
        # `where` keeps an infinite loss of an ignored pixel from turning into 0 * inf = NaN.
        weighted = jnp.where(self.counted > 0, losses * self.weight, 0)
        return jnp.sum(weighted, axis=(1, 2)) / jnp.maximum(jnp.sum(self.counted, axis=(1, 2)), 1)

    def overlaps(self) -> tuple[Array, Array, Array]:
        """Probabilities, truth and their product, (batch, height, width, classes) each.

        All three are 0 where a pixel does not count.
        """
        counted = self.counted[..., None]
        truth = self.truth * counted
        likely = jnp.where(counted > 0, self.probabilities(), 0)
        return likely, truth, likely * truth


def probabilities(
    logits: Float[Array, "*shape outputs"], activation: str
) -> Float[Array, "*shape classes"]:
    """The probability of each class; a single sigmoid output is that of class 1 of two."""
    if activation == "softmax":
        return jax.nn.softmax(logits)
    if logits.shape[-1] == 1:
        return jnp.concatenate([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], axis=-1)
    return jax.nn.sigmoid(logits)


@dataclasses.dataclass(frozen=True)
class Loss(abc.ABC):
    """A segmentation loss.

    A subclass is a frozen dataclass; its fields are the keywords in ``objective.losses``.
    """

    def __post_init__(self) -> None:
        validate_fields(self, type(self).__name__)

    @abc.abstractmethod
    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""

    def check(self, where: str, num_classes: int, activation: str) -> None:
        """Checks the fields against the classes of the data; by default all values are allowed.

        Args:
            where: the loss's key in the config, for errors.
            num_classes: the number of classes of a pixel.
            activation: see `Pixels`.

        Raises:
            ConfigError: a field is not for this number of classes or this activation.
        """
        del where, num_classes, activation


LOSSES: Registry[type[Loss]] = Registry("segmentation loss")


@LOSSES.register("cross_entropy")
@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """``-w log p(true class)``, averaged over pixels (Ronneberger et al. 2015, Equation 1).

    With sigmoids the binary cross-entropies are summed over outputs; arXiv 1505.04597 uses the
    softmax.
    """

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        return pixels.mean(-jnp.sum(pixels.log_likelihoods(), axis=-1))


@LOSSES.register("focal")
@dataclasses.dataclass(frozen=True)
class Focal(Loss):
    """``-alpha_t (1 - p_t)^gamma log p_t`` (Lin et al. 2017, arXiv 1708.02002, Equation 5).

    Attributes:
        gamma: reduces the loss of pixels that are already right; 0 is cross-entropy.
        alpha: the weights of classes. None: 1. A number, for sigmoids or two classes: the weight of
            class 1, while class 0 has 1 - alpha. A list, for a softmax: one weight per class.
    """

    gamma: NonNegativeFloat = 2.0
    alpha: Fraction | Sequence[NonNegativeFloat] | None = None

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        logs = pixels.log_likelihoods()
        # The slope of the power is infinite at 0 for gamma < 1.
        wrong = jnp.maximum(-jnp.expm1(logs), jnp.finfo(logs.dtype).tiny)
        losses = -(wrong**self.gamma) * logs if self.gamma else -logs
        return pixels.mean(jnp.sum(self._alpha(pixels) * losses, axis=-1))

    def check(self, where: str, num_classes: int, activation: str) -> None:
        """Checks that ``alpha`` suits the activation and the number of classes."""
        if self.alpha is None:
            return
        if isinstance(self.alpha, int | float):
            if activation == "softmax" and num_classes != 2:
                raise ConfigError(
                    f"{where}.alpha is {self.alpha}; with a softmax over {num_classes} classes it"
                    " must be a list of one weight per class"
                )
        elif activation == "sigmoid":
            raise ConfigError(
                f"{where}.alpha is {list(self.alpha)}; with cross_entropy = 'sigmoid' it must be"
                " one number, the weight of the pixels that belong to a class"
            )
        elif len(self.alpha) != num_classes:
            raise ConfigError(
                f"{where}.alpha has {len(self.alpha)} numbers for {num_classes} classes"
            )

    def _alpha(self, pixels: Pixels) -> Any:
        if self.alpha is None:
            return 1.0
        if isinstance(self.alpha, int | float):
            if pixels.activation == "sigmoid":
                targets = pixels.targets()
                return self.alpha * targets + (1 - self.alpha) * (1 - targets)
            weights = [1 - self.alpha, self.alpha]
        else:
            weights = list(self.alpha)
        values = pixels.truth @ jnp.asarray(weights, pixels.truth.dtype)
        return values[..., None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Overlap(Loss):
    """The mean over classes of one minus a coefficient of overlap.

    Attributes:
        smooth: added to numerator and denominator, in pixels, so that a class which an image lacks
            has no loss where it is not predicted.
        classes: the numbers of the classes that count; None: all.
    """

    smooth: NonNegativeFloat = 1.0
    classes: Sequence[NonNegativeInt] | None = None

    def check(self, where: str, num_classes: int, activation: str) -> None:
        """Checks that ``classes`` are classes of the data."""
        del activation
        if self.classes is None:
            return
        distinct = set(self.classes)
        if not distinct or len(distinct) < len(self.classes) or max(distinct) >= num_classes:
            raise ConfigError(
                f"{where}.classes is {list(self.classes)}; it must list classes of"
                f" 0..{num_classes - 1}, each once"
            )

    def _missing(self, numerator: Array, denominator: Array) -> Float[Array, "batch"]:
        """1 - numerator / denominator, both (batch, classes), averaged over the classes."""
        numerator, denominator = numerator + self.smooth, denominator + self.smooth
        # A class that neither occurs nor is predicted has no loss.
        empty = denominator <= 0
        coefficients = jnp.where(empty, 1, numerator / jnp.where(empty, 1, denominator))
        if self.classes is not None:
            coefficients = coefficients[:, jnp.asarray(self.classes)]
        return 1 - jnp.mean(coefficients, axis=-1)


@LOSSES.register("dice")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Dice(_Overlap):
    """``1 - 2 sum(p g) / (sum(p^2) + sum(g^2))`` of each class, averaged over classes.

    Milletari et al. 2016, arXiv 1606.04797, Section 3. Sums run over the pixels of an image.

    Attributes:
        squared: whether the denominator has squares, as in the paper, or p and g themselves.
        smooth: added to numerator and denominator, in pixels; 0 in the paper.
        classes: the numbers of the classes that count; None: all.
    """

    squared: bool = True

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        likely, truth, both = pixels.overlaps()
        sizes = (likely**2 if self.squared else likely) + truth
        return self._missing(2 * jnp.sum(both, axis=(1, 2)), jnp.sum(sizes, axis=(1, 2)))


@LOSSES.register("tversky")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tversky(_Overlap):
    """``1 - TP / (TP + alpha FP + beta FN)`` of each class, averaged over classes.

    Salehi et al. 2017, arXiv 1706.05721. TP, FP and FN are sums of probabilities over the pixels
    of an image.

    Attributes:
        alpha: the weight of false positives.
        beta: the weight of false negatives; the paper finds 0.3 and 0.7 best.
        smooth: added to numerator and denominator, in pixels; 0 in the paper.
        classes: the numbers of the classes that count; None: all.
    """

    alpha: NonNegativeFloat = 0.3
    beta: NonNegativeFloat = 0.7

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        likely, truth, both = pixels.overlaps()
        hit, predicted, true = (jnp.sum(x, axis=(1, 2)) for x in (both, likely, truth))
        return self._missing(hit, hit + self.alpha * (predicted - hit) + self.beta * (true - hit))


def check(section: Mapping[str, Any], where: str = "config.objective.losses") -> None:
    """Checks a config's ``objective.losses`` as far as that is possible without the classes.

    Args:
        section: as of `combine`.
        where: the section's key in the config, for errors.

    Raises:
        ConfigError: an unknown loss or key, or a value that cannot be used.
    """
    for name, value in section.items():
        constructor, key = LOSSES.lookup(name, where), f"{where}.{name}"
        weight, keywords = _weighted(value)
        check_value(weight, NonNegativeFloat, f"{key}: the weight")
        check_keywords(constructor, keywords, where=key)


def _weighted(value: Any) -> tuple[Any, dict[str, Any]]:
    """The weight and the keywords of an entry of ``objective.losses``."""
    keywords = dict(value) if isinstance(value, Mapping) else {"weight": value}
    return keywords.pop("weight", 1.0), keywords


def combine(
    section: Mapping[str, Any],
    num_classes: int,
    activation: str,
    where: str = "config.objective.losses",
) -> tuple[tuple[float, Loss], ...]:
    """The weight and the loss of each entry of a config's ``objective.losses``.

    Args:
        section: name -> weight, or name -> section with ``weight`` (default 1) and the keywords of
            the loss.
        num_classes: the number of classes of a pixel.
        activation: see `Pixels`.
        where: the section's key in the config, for errors.

    Raises:
        ConfigError: an unknown loss or key, a value that cannot be used, or no loss with a weight.
    """
    check(section, where)
    losses = []
    for name, value in section.items():
        key = f"{where}.{name}"
        weight, keywords = _weighted(value)
        loss = call(LOSSES[name], keywords, where=key)
        loss.check(key, num_classes, activation)
        if weight:
            losses.append((float(weight), loss))
    if not losses:
        raise ConfigError(f"{where} is {dict(section)}; at least one loss must have a weight")
    return tuple(losses)
