"""Transforms of colour, on uint8 images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from vitjax.data.errors import DataError
from vitjax.data.transforms.pipeline import register
from vitjax.data.transforms.pixels import number, with_pillow


@register("gray_to_rgb")
@dataclass(frozen=True)
class GrayToRgb:
    """Repeats the one channel of a grey image three times; leaves RGB as it is."""

    random: ClassVar[bool] = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with three channels."""
        if image.shape[-1] == 3:
            return image
        if image.shape[-1] != 1:
            raise DataError(f"gray_to_rgb takes images with 1 or 3 channels, not {image.shape}")
        return np.repeat(image, 3, axis=-1)


@register("grayscale")
@dataclass(frozen=True)
class Grayscale:
    """Makes one channel of three, the weights those of Rec. 601; leaves one as it is."""

    random: ClassVar[bool] = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with one channel."""
        if image.shape[-1] == 1:
            return image
        if image.shape[-1] != 3:
            raise DataError(f"grayscale takes images with 1 or 3 channels, not {image.shape}")
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]


@register("invert")
@dataclass(frozen=True)
class Invert:
    """Turns black into white and back: 255 - x in bytes, 1 - x in floats."""

    random: ClassVar[bool] = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The negative."""
        return (255 if image.dtype == np.uint8 else np.float32(1)) - image


@register("color_jitter")
@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue by random factors, in random order.

    As torchvision's: a factor is uniform in [max(0, 1 - x), 1 + x]. Saturation and hue leave grey
    images as they are.

    Attributes:
        brightness: x of the brightness.
        contrast: x of the contrast, about the image's mean grey.
        saturation: x of the saturation.
        hue: shift of the hue, up to this share of the colour circle either way, at most 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            number(getattr(self, name), name, 0)
        number(self.hue, "hue", 0, 0.5)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image in other colours."""
        return with_pillow(image, lambda picture: self._jitter(picture, rng), "color_jitter")

    def _jitter(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        order = rng.permutation(4)
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [rng.uniform(max(0.0, 1 - x), 1 + x) for x in spans]
        shift = rng.uniform(-self.hue, self.hue)
        for step in order:
            if step == 3:
                picture = shift_hue(picture, shift) if self.hue else picture
            elif spans[step]:
                picture = ENHANCERS[step](picture).enhance(factors[step])
        return picture


ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def shift_hue(picture: Image.Image, shift: float) -> Image.Image:
    """Turns the colours of an RGB picture by ``shift`` of the colour circle; leaves grey alone."""
    if picture.mode != "RGB":
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(shift * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
