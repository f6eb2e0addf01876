"""Losses of segmentation: each gives one number for every image of a batch.

So a batch's loss is a mean over its images, and batches cut into pieces, in memory or over devices,
add up to the loss of the whole whatever losses are combined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.core.validation import call

ACTIVATIONS = ("softmax", "sigmoid")
WHERE = "config.objective.losses"


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What losses compare: a batch's outputs and labels, pixel by pixel.

    Attributes:
        logits: (batch, height, width, outputs); with ``"sigmoid"`` two classes may have one output,
            that of class 1.
        truth: (batch, height, width, classes), one-hot; its rows do not matter where not counted.
        counted: (batch, height, width), 1 where a pixel counts and 0 where it is ignored.
        weight: (batch, height, width), the weight map of the per-pixel losses.
        activation: ``"softmax"`` over classes, or a ``"sigmoid"`` for each.
    """

    logits: Float[Array, "batch height width outputs"]
    truth: Float[Array, "batch height width classes"]
    counted: Float[Array, "batch height width"]
    weight: Float[Array, "batch height width"]
    activation: Literal["softmax", "sigmoid"]

    def probabilities(self) -> Float[Array, "batch height width classes"]:
        """The probability of every class."""
        return probabilities(self.logits, self.activation)

    def log_likelihoods(self) -> Float[Array, "batch height width decisions"]:
        """The log-probability of what is true, for each decision that is made of a pixel.

        With a softmax one decision, that for the pixel's class; with sigmoids one for each output.
        """
        if self.activation == "softmax":
            logs = jax.nn.log_softmax(self.logits)
            return jnp.sum(logs * self.truth, axis=-1, keepdims=True)
        return jax.nn.log_sigmoid(self.logits * (2 * self.targets() - 1))

    def targets(self) -> Float[Array, "batch height width outputs"]:
        """The truth in as many channels as there are outputs."""
        return self.truth[..., 1:] if self.logits.shape[-1] == 1 else self.truth

    def mean(self, losses: Float[Array, "batch height width"]) -> Float[Array, "batch"]:
        """The mean over an image's counted pixels of ``losses`` times the weight map."""
        # `where` keeps an infinite loss of an ignored pixel from turning into 0 * inf = NaN.
        weighted = jnp.where(self.counted > 0, losses * self.weight, 0)
        return jnp.sum(weighted, axis=(1, 2)) / jnp.maximum(jnp.sum(self.counted, axis=(1, 2)), 1)

    def overlaps(self) -> tuple[Array, Array, Array]:
        """Probabilities, truth and their product, each (batch, height, width, classes), counted."""
        counted = self.counted[..., None]
        truth = self.truth * counted
        likely = jnp.where(counted > 0, self.probabilities(), 0)
        return likely, truth, likely * truth


def probabilities(
    logits: Float[Array, "*shape outputs"], activation: str
) -> Float[Array, "*shape classes"]:
    """The probability of every class; one output of a sigmoid is that of the second of two."""
    if activation == "softmax":
        return jax.nn.softmax(logits)
    if logits.shape[-1] == 1:
        return jnp.concatenate([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], axis=-1)
    return jax.nn.sigmoid(logits)


class Loss(Protocol):
    """A loss: for each image of a batch one number."""

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""


LOSSES: Registry[type[Any]] = Registry("segmentation loss")


@LOSSES.register("cross_entropy")
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The mean over pixels of ``-w log p(true class)``, as Ronneberger et al. 2015, Equation 1.

    With sigmoids the sum over outputs of the binary cross-entropies (arXiv 1505.04597 has the
    softmax).
    """

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        return pixels.mean(-jnp.sum(pixels.log_likelihoods(), axis=-1))


@LOSSES.register("focal")
@dataclasses.dataclass(frozen=True)
class Focal:
    """``-alpha_t (1 - p_t)^gamma log p_t`` (Lin et al. 2017, arXiv 1708.02002, Equation 5).

    Attributes:
        gamma: how much less a pixel counts that is right already; 0 is cross-entropy.
        alpha: None: all classes alike. A number: the weight of class 1, with 1 - alpha that of the
            other; for sigmoids, or two classes. A list: the weight of each class, for a softmax.
    """

    gamma: float = 2.0
    alpha: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        _not_negative("focal", gamma=self.gamma)
        if isinstance(self.alpha, int | float) and not 0 <= self.alpha <= 1:
            raise ConfigError(f"{WHERE}.focal.alpha is {self.alpha}; not in 0..1")
        if isinstance(self.alpha, list | tuple):
            _not_negative("focal", **{f"alpha[{i}]": value for i, value in enumerate(self.alpha)})

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        logs = pixels.log_likelihoods()
        # The power's slope has no bound at 0 where gamma < 1.
        wrong = jnp.maximum(-jnp.expm1(logs), jnp.finfo(logs.dtype).tiny)
        losses = -(wrong**self.gamma) * logs if self.gamma else -logs
        return pixels.mean(jnp.sum(self._alpha(pixels) * losses, axis=-1))

    def check(self, num_classes: int, activation: str) -> None:
        """Raises ConfigError if ``alpha`` is not for so many classes."""
        if isinstance(self.alpha, list | tuple):
            if activation == "sigmoid":
                raise ConfigError(
                    f"{WHERE}.focal.alpha is {list(self.alpha)}; with cross_entropy = 'sigmoid' it"
                    " is one number, the weight of what belongs to a class"
                )
            if len(self.alpha) != num_classes:
                raise ConfigError(
                    f"{WHERE}.focal.alpha has {len(self.alpha)} numbers for {num_classes} classes"
                )
        elif self.alpha is not None and activation == "softmax" and num_classes != 2:
            raise ConfigError(
                f"{WHERE}.focal.alpha is {self.alpha}; with a softmax over {num_classes} classes it"
                " is a list of a weight for each"
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
class _Overlap:
    """What losses of overlap share: a mean over classes of one minus a coefficient.

    Attributes:
        smooth: added to numerator and denominator, in pixels, so that a class that an image lacks
            is well predicted where it is nowhere predicted.
        classes: the numbers of the classes that count; None: all.
    """

    smooth: float = 1.0
    classes: Sequence[int] | None = None

    def check(self, num_classes: int, activation: str) -> None:
        """Raises ConfigError if ``classes`` are not among so many."""
        del activation
        if self.classes is None:
            return
        wrong = [c for c in self.classes if not (isinstance(c, int) and 0 <= c < num_classes)]
        if wrong or not self.classes or len(set(self.classes)) < len(self.classes):
            name = type(self).__name__.lower()
            raise ConfigError(
                f"{WHERE}.{name}.classes is {list(self.classes)}; it should list classes of"
                f" 0..{num_classes - 1}, each once"
            )

    def _missing(self, numerator: Array, denominator: Array) -> Float[Array, "batch"]:
        """1 - numerator / denominator, both (batch, classes), averaged over the classes."""
        numerator, denominator = numerator + self.smooth, denominator + self.smooth
        # Of a class that is nowhere, nothing is missing.
        empty = denominator <= 0
        shares = jnp.where(empty, 1, numerator / jnp.where(empty, 1, denominator))
        if self.classes is not None:
            shares = shares[:, jnp.asarray(self.classes)]
        return 1 - jnp.mean(shares, axis=-1)


@LOSSES.register("dice")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Dice(_Overlap):
    """``1 - 2 sum(p g) / (sum(p^2) + sum(g^2))`` of every class, averaged over classes.

    Milletari et al. 2016, arXiv 1606.04797, Section 3; sums run over an image's pixels.

    Attributes:
        squared: whether the denominator has squares, as in the paper, or p and g themselves.
        smooth: added to numerator and denominator, in pixels; 0 in the paper.
        classes: the numbers of the classes that count; None: all.
    """

    squared: bool = True

    def __post_init__(self) -> None:
        _not_negative("dice", smooth=self.smooth)

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        likely, truth, both = pixels.overlaps()
        sizes = (likely**2 if self.squared else likely) + truth
        return self._missing(2 * jnp.sum(both, axis=(1, 2)), jnp.sum(sizes, axis=(1, 2)))


@LOSSES.register("tversky")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tversky(_Overlap):
    """``1 - TP / (TP + alpha FP + beta FN)`` of every class, averaged over classes.

    Salehi et al. 2017, arXiv 1706.05721: TP, FP and FN are sums over an image's pixels of
    probabilities.

    Attributes:
        alpha: the weight of false positives.
        beta: the weight of false negatives; the paper's best are 0.3 and 0.7.
        smooth: added to numerator and denominator, in pixels; 0 in the paper.
        classes: the numbers of the classes that count; None: all.
    """

    alpha: float = 0.3
    beta: float = 0.7

    def __post_init__(self) -> None:
        _not_negative("tversky", alpha=self.alpha, beta=self.beta, smooth=self.smooth)

    def __call__(self, pixels: Pixels) -> Float[Array, "batch"]:
        """The loss of each image."""
        likely, truth, both = pixels.overlaps()
        hit, predicted, true = (jnp.sum(x, axis=(1, 2)) for x in (both, likely, truth))
        return self._missing(hit, hit + self.alpha * (predicted - hit) + self.beta * (true - hit))


def combine(
    section: Mapping[str, Any], num_classes: int, activation: str
) -> tuple[tuple[float, Loss], ...]:
    """The losses of a config's ``objective.losses`` and the weight of each.

    Args:
        section: name -> weight, or name -> ``weight`` (1 if not given) and keywords of that loss.
        num_classes: how many classes a pixel can have.
        activation: one of `ACTIVATIONS`.

    Raises:
        ConfigError: an unknown loss or key, or a value that cannot be used.
    """
    losses = []
    for name, value in section.items():
        keywords = dict(value) if isinstance(value, Mapping) else {"weight": value}
        if name not in LOSSES:
            raise ConfigError(
                f"{WHERE}: there is no loss {name!r}{near_match(name, LOSSES)}"
                f" (known: {', '.join(LOSSES)})"
            )
        weight = keywords.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ConfigError(
                f"{WHERE}.{name}: the weight is {weight!r}; it should be a number that is not"
                " negative, or a section of 'weight' and the loss's keywords"
            )
        loss = call(LOSSES[name], keywords, where=f"{WHERE}.{name}")
        if hasattr(loss, "check"):
            loss.check(num_classes, activation)
        losses.append((float(weight), loss))
    if not any(weight for weight, _ in losses):
        raise ConfigError(f"{WHERE} is {dict(section)}; one loss at least should have a weight")
    return tuple((weight, loss) for weight, loss in losses if weight)


def _not_negative(loss: str, **values: Any) -> None:
    for key, value in values.items():
        if not value >= 0:
            raise ConfigError(f"{WHERE}.{loss}.{key} is {value}; it should not be negative")
