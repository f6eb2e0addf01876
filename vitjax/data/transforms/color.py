"""Transforms of colours and grey values; all other fields stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from vitjax.core.validation import Bounds, Fraction, NonNegativeFloat
from vitjax.data.errors import DataError
from vitjax.data.transforms.base import Photometric, register
from vitjax.data.transforms.pixels import with_pillow
from vitjax.data.transforms.values import Ascending, Span


@register("gray_to_rgb")
@dataclass(frozen=True)
class GrayToRgb(Photometric):
    """Repeats the one channel of a grey image three times; leaves RGB as it is."""

    random = False

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with three channels."""
        if image.shape[-1] == 3:
            return image
        if image.shape[-1] != 1:
            raise DataError(f"gray_to_rgb takes images with 1 or 3 channels, not {image.shape}")
        return np.repeat(image, 3, axis=-1)


@register("grayscale")
@dataclass(frozen=True)
class Grayscale(Photometric):
    """Makes one channel of three with the weights of Rec. 601; leaves one channel as it is."""

    random = False

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with one channel."""
        if image.shape[-1] == 1:
            return image
        if image.shape[-1] != 3:
            raise DataError(f"grayscale takes images with 1 or 3 channels, not {image.shape}")
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]


@register("invert")
@dataclass(frozen=True)
class Invert(Photometric):
    """Exchanges black and white: 255 - x in bytes, 1 - x in floats."""

    random = False

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The negative."""
        return (255 if image.dtype == np.uint8 else np.float32(1)) - image


@register("color_jitter")
@dataclass(frozen=True)
class ColorJitter(Photometric):
    """Changes brightness, contrast, saturation and hue by random factors, in random order.

    As torchvision's: a factor is uniform in [max(0, 1 - x), 1 + x]. Saturation and hue leave grey
    images as they are. Takes uint8 images.

    Attributes:
        brightness: x of the brightness.
        contrast: x of the contrast, about the image's mean grey.
        saturation: x of the saturation.
        hue: shift of the hue, up to this fraction of the colour circle either way, at most 0.5.
    """

    brightness: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: Annotated[float, Bounds(at_least=0, at_most=0.5)] = 0.0

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image in other colours."""
        return with_pillow(image, lambda drawn: self._jitter(drawn, rng), "color_jitter")

    def _jitter(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        order = rng.permutation(4)
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [rng.uniform(max(0.0, 1 - x), 1 + x) for x in spans]
        shift = rng.uniform(-self.hue, self.hue)
        for step in order:
            if step == 3:
                image = shift_hue(image, shift) if self.hue else image
            elif spans[step]:
                image = ENHANCERS[step](image).enhance(factors[step])
        return image


ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turns the colours of an RGB image by ``shift`` of the colour circle; leaves grey alone."""
    if image.mode != "RGB":
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(shift * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _as_floats(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The image after ``change``, which takes and returns float32 where 1 is white; clipped."""
    if image.dtype == np.uint8:
        changed = change(image.astype(np.float32) / 255) * 255
        return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return np.clip(change(image), 0, 1).astype(np.float32)


@register("brightness")
@dataclass(frozen=True)
class Brightness(Photometric):
    """Adds a random number to all values.

    Attributes:
        amount: the most, either way, where 1 is white; drawn uniformly.
    """

    amount: Fraction = 0.1

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, lighter or darker."""
        added = np.float32(rng.uniform(-self.amount, self.amount))
        return _as_floats(image, lambda values: values + added)


@register("contrast")
@dataclass(frozen=True)
class Contrast(Photometric):
    """Stretches the values about their mean.

    Attributes:
        factor: (least, most), drawn uniformly.
    """

    factor: Annotated[tuple[NonNegativeFloat, NonNegativeFloat], Ascending()] = (0.8, 1.2)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with more contrast or less."""
        factor = np.float32(rng.uniform(*self.factor))
        return _as_floats(image, lambda values: (values - values.mean()) * factor + values.mean())


@register("gamma")
@dataclass(frozen=True)
class Gamma(Photometric):
    """Raises the values, 1 being white, to a power.

    Attributes:
        power: (least, most), drawn uniformly in its logarithm.
    """

    power: Span = (0.7, 1.4)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with lighter or darker middle greys."""
        low, high = map(math.log, self.power)
        power = np.float32(math.exp(rng.uniform(low, high)))
        return _as_floats(image, lambda values: np.clip(values, 0, 1) ** power)


@register("noise")
@dataclass(frozen=True)
class Noise(Photometric):
    """Adds Gaussian noise of random strength.

    Attributes:
        sigma: the largest standard deviation, where 1 is white; drawn uniformly from 0.
    """

    sigma: NonNegativeFloat = 0.05

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with noise."""
        sigma = np.float32(rng.uniform(0, self.sigma))
        added = sigma * rng.standard_normal(image.shape, np.float32)
        return _as_floats(image, lambda values: values + added)
