"""Transforms that move pixels: resizing, crops, flips, affine maps, erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.transforms.pipeline import register
from vitjax.data.transforms.pixels import INTERPOLATIONS, number, one_of, resized, sides, span

_TRIES = 10  # as torchvision: attempts at a random box that fits before a safe one is taken


@register("resize")
@dataclass(frozen=True)
class Resize:
    """Resizes, with antialiasing.

    Attributes:
        size: one whole number for the shorter side, keeping the aspect ratio, or (height, width).
        interpolation: "nearest", "bilinear", "bicubic", "lanczos" or "area".
    """

    random: ClassVar[bool] = False

    size: int | tuple[int, int]
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        sides(self.size)
        one_of(self.interpolation, "interpolation", INTERPOLATIONS)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image at its new size."""
        if not isinstance(self.size, int):
            return resized(image, sides(self.size), self.interpolation)
        height, width = image.shape[:2]
        short, long = min(height, width), max(height, width)
        longer = int(self.size * long / short)
        size = (self.size, longer) if height <= width else (longer, self.size)
        return resized(image, size, self.interpolation)


@register("center_crop")
@dataclass(frozen=True)
class CenterCrop:
    """Cuts out the middle; where the image is smaller, black is added around it.

    Attributes:
        size: one whole number of pixels, or (height, width).
    """

    random: ClassVar[bool] = False

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        sides(self.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The middle of the image."""
        height, width = sides(self.size)
        more = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
        if any(more):
            around = [(m // 2, m - m // 2) for m in more]
            image = np.pad(image, [*around, (0, 0)])
        top = round((image.shape[0] - height) / 2)
        left = round((image.shape[1] - width) / 2)
        return image[top : top + height, left : left + width]


@register("random_crop")
@dataclass(frozen=True)
class RandomCrop:
    """Cuts out a part at a place chosen at random.

    Attributes:
        size: one whole number of pixels, or (height, width).
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        sides(self.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A part of the image."""
        return _random_window(image, sides(self.size), rng, "random_crop")


@register("pad_and_crop")
@dataclass(frozen=True)
class PadAndCrop:
    """Pads all four sides, then cuts out a part at random: the CIFAR augmentation.

    1512.03385, section 4.2 (with zeros).

    Attributes:
        size: of the result: one whole number of pixels, or (height, width).
        padding: pixels to add on each side.
        mode: "reflect" mirrors the image without doubling its edge; "constant" adds black.
    """

    size: int | tuple[int, int]
    padding: int = 4
    mode: str = "reflect"

    def __post_init__(self) -> None:
        sides(self.size)
        if not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f"padding is {self.padding!r}; it is a whole number of pixels")
        one_of(self.mode, "mode", ("reflect", "constant"))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A part of the padded image."""
        pad = self.padding
        if self.mode == "reflect" and pad >= min(image.shape[:2]):
            raise DataError(
                f"pad_and_crop cannot mirror {pad} pixels of an image of shape {image.shape};"
                ' use less padding or mode="constant"'
            )
        border = cv2.BORDER_REFLECT_101 if self.mode == "reflect" else cv2.BORDER_CONSTANT
        padded = cv2.copyMakeBorder(np.ascontiguousarray(image), pad, pad, pad, pad, border)
        padded = padded.reshape(*padded.shape[:2], image.shape[-1])
        return _random_window(padded, sides(self.size), rng, "pad_and_crop")


def _random_window(
    image: np.ndarray, size: tuple[int, int], rng: np.random.Generator, name: str
) -> np.ndarray:
    room = image.shape[0] - size[0], image.shape[1] - size[1]
    if min(room) < 0:
        raise DataError(
            f"{name} cannot cut {size[0]}x{size[1]} out of {image.shape[0]}x{image.shape[1]};"
            f" put resize({max(size)}) before it"
        )
    top, left = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
    return image[top : top + size[0], left : left + size[1]]


@register("random_resized_crop")
@dataclass(frozen=True)
class RandomResizedCrop:
    """Resizes a part of random area and aspect ratio: the Inception crop.

    1409.4842, section 6; the boxes are drawn as torchvision draws them: the area uniformly, the
    ratio uniformly in its logarithm, ten tries, then the largest box in the middle whose ratio is
    allowed.

    Attributes:
        size: of the result: one whole number of pixels, or (height, width).
        scale: the part's share of the image's area, (least, most).
        ratio: the part's width over its height, (least, most).
        interpolation: "nearest", "bilinear", "bicubic", "lanczos" or "area".
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        sides(self.size)
        span(self.scale, "scale", 1e-6, 1)
        span(self.ratio, "ratio", 1e-3, 1e3)
        one_of(self.interpolation, "interpolation", INTERPOLATIONS)

    def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """The part to take of an image of ``height`` x ``width``: (left, top, right, bottom)."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                return left, top, left + w, top + h
        w = min(width, round(height * self.ratio[1]))
        h = min(height, round(width / self.ratio[0]))
        top, left = (height - h) // 2, (width - w) // 2
        return left, top, left + w, top + h

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A part of the image, at the new size."""
        box = self.box(image.shape[0], image.shape[1], rng)
        if (box[3] - box[1], box[2] - box[0]) == sides(self.size):
            return image[box[1] : box[3], box[0] : box[2]]
        return resized(image, sides(self.size), self.interpolation, box)


@register("flip")
@dataclass(frozen=True)
class Flip:
    """Mirrors left and right.

    Attributes:
        p: the probability.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number(self.p, "p", 0, 1)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, mirrored or as it was."""
        return image[:, ::-1] if rng.random() < self.p else image


@register("random_affine")
@dataclass(frozen=True)
class RandomAffine:
    """Rotates, scales, shears and shifts about the middle, all uniformly at random; bilinear.

    For small images such as digits, which a flip or a hard crop would turn into other classes.

    Attributes:
        degrees: rotation, up to this many degrees either way.
        translate: shift, up to this share of the width and height.
        scale: (least, most) factor of size.
        shear: slant along the width, up to this many degrees either way.
        fill: the value of pixels from outside the image.
    """

    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        number(self.degrees, "degrees", 0, 180)
        number(self.translate, "translate", 0, 1)
        span(self.scale, "scale", 1e-3, 1e3)
        number(self.shear, "shear", 0, 80)
        number(self.fill, "fill")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, moved."""
        height, width, channels = image.shape
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        slant = math.tan(math.radians(rng.uniform(-self.shear, self.shear)))
        factor = rng.uniform(*self.scale)
        shift = rng.uniform(-self.translate, self.translate, 2) * (width, height)
        cos, sin = factor * math.cos(angle), factor * math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, slant], [0.0, 1.0]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.column_stack([linear, middle + shift - linear @ middle])
        planes = [
            cv2.warpAffine(
                np.ascontiguousarray(image[..., c : c + 4]),
                matrix,
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderValue=(self.fill,) * 4,
            ).reshape(height, width, -1)
            for c in range(0, channels, 4)  # OpenCV warps four channels at most
        ]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


@register("random_erasing")
@dataclass(frozen=True)
class RandomErasing:
    """Overwrites a random rectangle.

    1708.04896, algorithm 1; the box is drawn as torchvision draws it.

    Attributes:
        p: the probability of erasing at all.
        scale: the rectangle's share of the image's area, (least, most).
        ratio: the rectangle's height over its width, (least, most).
        value: a number to fill in, one for each channel, or "random" for noise from 0 to 255 (0 to
            1 in images of floats).
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] | str = 0

    def __post_init__(self) -> None:
        number(self.p, "p", 0, 1)
        span(self.scale, "scale", 1e-6, 1)
        span(self.ratio, "ratio", 1e-3, 1e3)
        if self.value != "random":
            for v in self.value if isinstance(self.value, tuple | list) else (self.value,):
                if isinstance(v, str):
                    raise ValueError(f'value is {v!r}; it is a number, one a channel, or "random"')
                number(v, "value", -255, 255)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with a rectangle overwritten, or as it was."""
        if rng.random() >= self.p:
            return image
        height, width, channels = image.shape
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                image = image.copy()
                image[top : top + h, left : left + w] = self._filling((h, w, channels), image, rng)
                return image
        return image

    def _filling(
        self, shape: tuple[int, int, int], image: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | float:
        if self.value == "random":
            if image.dtype == np.uint8:
                return rng.integers(0, 256, shape, dtype=np.uint8)
            return rng.random(shape, dtype=np.float32)
        values = np.asarray(self.value)
        if values.ndim and len(values) != shape[-1]:
            raise DataError(
                f"random_erasing has {len(values)} values for images of {shape[-1]} channels"
            )
        return values.astype(image.dtype)
