"""What a corruption is, the registry of corruptions, and how parameters depend on image size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import numpy as np

from vitjax.core.registry import Registry
from vitjax.core.validation import Bounds, check_value
from vitjax.data.errors import DataError

SEVERITIES = (1, 2, 3, 4, 5)
Severity = Annotated[int, Bounds(at_least=1, at_most=5)]

# A function of (image, severity, rng): uint8 images of shape (height, width, 1 or 3), a severity
# of `SEVERITIES`, and the source of all randomness; it returns an image of the same shape, uint8.
# Fact: ``kind``, one of "noise", "blur", "weather" and "digital".
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
CORRUPTIONS: Registry[Corruption] = Registry("corruption")

register = CORRUPTIONS.register

_SMALL, _LARGE = 32, 224  # pixels of the sides that parameters are published for

ValueT = TypeVar("ValueT")


def corrupt(
    image: np.ndarray, name: str, severity: int, rng: np.random.Generator, where: str = "corrupt"
) -> np.ndarray:
    """An image with one of the common corruptions.

    Args:
        image: uint8, or float32 in [0, 1], which is rounded to 8 bits; (height, width, channels),
            1 or 3 channels.
        name: of `CORRUPTIONS`.
        severity: from 1 to 5.
        rng: the source of all randomness.
        where: who names the corruption, for errors.

    Returns:
        An array of the shape and type of ``image``.

    Raises:
        ConfigError: there is no such corruption or severity.
        DataError: the image is of another type or has other channels.
    """
    function = CORRUPTIONS.lookup(name, where)
    check_value(severity, Severity, f"{where}: severity")
    pixels = eight_bits(image, name)
    return like(function(pixels, severity, rng), image)


def eight_bits(image: np.ndarray, name: str) -> np.ndarray:
    """An image as uint8; of floats, 1 is white.

    Raises:
        DataError: it is not an image of 1 or 3 channels; ``name`` says what wanted it.
    """
    fits = image.ndim == 3 and image.shape[-1] in (1, 3) and image.size
    if not fits or image.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{name} works on images of uint8, or of float32 in 0..1, with 1 or 3 channels, not on"
            f" {image.dtype} of shape {image.shape}"
        )
    if image.dtype == np.uint8:
        return image
    if not (image.min() >= 0 and image.max() <= 1):
        raise DataError(
            f"{name} works on floats in 0..1, and an image has values from {image.min():.4g} to"
            f" {image.max():.4g}"
        )
    return np.rint(image * 255).astype(np.uint8)


def like(pixels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Bytes in the type of ``image``: uint8, or float32 of which 1 is white."""
    return pixels if image.dtype == np.uint8 else pixels.astype(np.float32) / 255


@dataclass(frozen=True)
class Published(Generic[ValueT]):
    """The parameters of a corruption at severities 1 to 5, as its authors published them.

    Attributes:
        small: for images of 32 x 32 pixels, those of CIFAR-10-C.
        large: for images of 224 x 224 pixels, those of ImageNet-C.
    """

    small: tuple[ValueT, ...]
    large: tuple[ValueT, ...]

    def at(self, image: np.ndarray, severity: int) -> tuple[ValueT, float]:
        """The parameters for an image, and the factor of what is a length in pixels.

        Images whose shorter side is nearer to 32 than to 224 pixels on a logarithmic scale, up to
        84, have the parameters of the former. Lengths grow with the side, so that an image of any
        size is corrupted as that of the published size and then resized would be.

        Args:
            image: (height, width, ...).
            severity: from 1 to 5.
        """
        side = min(image.shape[:2])
        near = side**2 <= _SMALL * _LARGE
        table, published = (self.small, _SMALL) if near else (self.large, _LARGE)
        return table[severity - 1], side / published


def as_floats(image: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return image.astype(np.float32) / 255


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Floats of which 1 is white as rounded uint8; others are clipped."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def grey(values: np.ndarray) -> np.ndarray:
    """The luminance (Rec. 601) of floats (height, width, 1 or 3), with a last axis of 1."""
    if values.shape[-1] == 1:
        return values
    return values @ np.array([[0.299], [0.587], [0.114]], np.float32)


def octaves(shape: tuple[int, int]) -> int:
    """The number of times that the longer side can be halved, rounded up; at least 1."""
    return max(1, math.ceil(math.log2(max(shape))))
