"""Transforms of the image alone: grey values and colours change, and the mask stays."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitjax.data.segmentation.pairs import Pair
from vitjax.data.segmentation.transforms import PairTransform, register
from vitjax.data.transforms import color
from vitjax.data.transforms.pixels import number, span


def _regrey(pair: Pair, change: Callable[[np.ndarray], np.ndarray]) -> Pair:
    """The pair with other grey values; ``change`` takes and gives floats of which 1 is white."""
    if pair.image.dtype == np.uint8:
        changed = change(pair.image.astype(np.float32) / 255) * 255
        return replace(pair, image=np.clip(np.rint(changed), 0, 255).astype(np.uint8))
    return replace(pair, image=np.clip(change(pair.image), 0, 1).astype(np.float32))


@register("brightness")
@dataclass(frozen=True)
class Brightness(PairTransform):
    """Adds a number to all grey values of the image.

    Attributes:
        amount: drawn uniformly up to this either way, where 1 is white.
    """

    amount: float = 0.1

    def __post_init__(self) -> None:
        number(self.amount, "amount", 0, 1)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, lighter or darker."""
        added = np.float32(rng.uniform(-self.amount, self.amount))
        return _regrey(pair, lambda image: image + added)


@register("contrast")
@dataclass(frozen=True)
class Contrast(PairTransform):
    """Stretches the grey values of the image about their mean.

    Attributes:
        factor: (least, most), drawn uniformly.
    """

    factor: tuple[float, float] = (0.8, 1.2)

    def __post_init__(self) -> None:
        span(self.factor, "factor", 0, 100)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair with more contrast or less."""
        factor = np.float32(rng.uniform(*self.factor))
        return _regrey(pair, lambda image: (image - image.mean()) * factor + image.mean())


@register("gamma")
@dataclass(frozen=True)
class Gamma(PairTransform):
    """Raises the grey values of the image, 1 being white, to a power.

    Attributes:
        power: (least, most), drawn uniformly in its logarithm.
    """

    power: tuple[float, float] = (0.7, 1.4)

    def __post_init__(self) -> None:
        span(self.power, "power", 0.01, 100)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair with lighter or darker middle greys."""
        low, high = map(math.log, self.power)
        power = np.float32(math.exp(rng.uniform(low, high)))
        return _regrey(pair, lambda image: np.clip(image, 0, 1) ** power)


@register("noise")
@dataclass(frozen=True)
class Noise(PairTransform):
    """Adds Gaussian noise to the image, of a strength drawn anew each time.

    Attributes:
        sigma: the most that the deviation can be, where 1 is white; drawn uniformly from 0.
    """

    sigma: float = 0.05

    def __post_init__(self) -> None:
        number(self.sigma, "sigma", 0, 10)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, noisier."""
        sigma = np.float32(rng.uniform(0, self.sigma))
        added = sigma * rng.standard_normal(pair.image.shape, np.float32)
        return _regrey(pair, lambda image: image + added)


@dataclass(frozen=True)
class OfImage(PairTransform):
    """A transform of single images that moves no pixel, applied to the image.

    Attributes:
        transform: as of `vitjax.data.transforms`.
    """

    transform: Any

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether ``transform`` is."""
        return getattr(self.transform, "random", True)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair in other colours."""
        return replace(pair, image=self.transform(pair.image, rng))


def _of_image(constructor: Callable[..., Any]) -> Callable[..., PairTransform]:
    """A constructor with the same keywords, of the transform applied to the image of a pair."""

    @functools.wraps(constructor, updated=())
    def construct(**keywords: Any) -> PairTransform:
        return OfImage(constructor(**keywords))

    construct.__signature__ = inspect.signature(constructor)  # type: ignore[attr-defined]
    return construct


for _name, _constructor in (
    ("color_jitter", color.ColorJitter),
    ("gray_to_rgb", color.GrayToRgb),
    ("grayscale", color.Grayscale),
    ("invert", color.Invert),
):
    register(_name)(_of_image(_constructor))
