"""RandAugment and TrivialAugment: random picks from a fixed set of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vitjax.data.transforms.pipeline import register
from vitjax.data.transforms.pixels import one_of, with_pillow

BINS = 31  # magnitudes 0 to 30, as torchvision's RandAugment and TrivialAugmentWide
_TOP = BINS - 1

_RESAMPLE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Operation:
    """One operation of a policy.

    Attributes:
        magnitude: from the bin, 0 to 30, and the image's (width, height) to the strength.
        signed: whether the strength's sign is random.
        apply: from the image, the signed strength and the resampling filter to an image.
    """

    magnitude: Callable[[int, tuple[int, int]], float]
    signed: bool
    apply: Callable[[Image.Image, float, Image.Resampling], Image.Image]


def _affine(
    picture: Image.Image, matrix: tuple[float, ...], resample: Image.Resampling
) -> Image.Image:
    # Pillow's matrix maps places in the result to places in the picture.
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample)


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float, Image.Resampling], Image.Image]:
    return lambda picture, strength, resample: kind(picture).enhance(1 + strength)


def _posterize(picture: Image.Image, bits: float, resample: Image.Resampling) -> Image.Image:
    return ImageOps.posterize(picture, int(bits))


def _solarize(picture: Image.Image, threshold: float, resample: Image.Resampling) -> Image.Image:
    # Pillow inverts from the threshold on; ceil makes a fractional threshold mean the same.
    return ImageOps.solarize(picture, int(np.ceil(threshold)))


def _operations(
    shear: float,
    translate: Callable[[int], float],
    rotate: float,
    enhance: float,
    posterize: int,
) -> Mapping[str, Operation]:
    """The fourteen operations with the strengths of one policy.

    Args:
        shear: the largest slant, pixels a pixel.
        translate: the largest shift in pixels along a side of the given length.
        rotate: the largest rotation in degrees.
        enhance: the largest change of a factor of brightness, colour, contrast or sharpness.
        posterize: how many of the eight bits the largest magnitude takes away.
    """

    def linear(top: float) -> Callable[[int, tuple[int, int]], float]:
        return lambda step, size: top * step / _TOP

    def nothing(step: int, size: tuple[int, int]) -> float:
        return 0.0

    return {
        "identity": Operation(nothing, False, lambda picture, _, __: picture),
        "shear_x": Operation(
            linear(shear), True, lambda p, x, r: _affine(p, (1, x, 0, 0, 1, 0), r)
        ),
        "shear_y": Operation(
            linear(shear), True, lambda p, x, r: _affine(p, (1, 0, 0, x, 1, 0), r)
        ),
        "translate_x": Operation(
            lambda step, size: translate(size[0]) * step / _TOP,
            True,
            lambda p, x, r: _affine(p, (1, 0, -int(x), 0, 1, 0), r),
        ),
        "translate_y": Operation(
            lambda step, size: translate(size[1]) * step / _TOP,
            True,
            lambda p, x, r: _affine(p, (1, 0, 0, 0, 1, -int(x)), r),
        ),
        "rotate": Operation(linear(rotate), True, lambda p, x, r: p.rotate(x, r)),
        "brightness": Operation(linear(enhance), True, _enhance(ImageEnhance.Brightness)),
        "color": Operation(linear(enhance), True, _enhance(ImageEnhance.Color)),
        "contrast": Operation(linear(enhance), True, _enhance(ImageEnhance.Contrast)),
        "sharpness": Operation(linear(enhance), True, _enhance(ImageEnhance.Sharpness)),
        "posterize": Operation(
            lambda step, size: 8 - round(posterize * step / _TOP), False, _posterize
        ),
        "solarize": Operation(lambda step, size: 255 - 255 * step / _TOP, False, _solarize),
        "auto_contrast": Operation(nothing, False, lambda p, _, __: ImageOps.autocontrast(p)),
        "equalize": Operation(nothing, False, lambda p, _, __: ImageOps.equalize(p)),
    }


RAND_AUGMENT = _operations(
    shear=0.3, translate=lambda side: 150 / 331 * side, rotate=30, enhance=0.9, posterize=4
)
TRIVIAL_AUGMENT_WIDE = _operations(
    shear=0.99, translate=lambda side: 32, rotate=135, enhance=0.99, posterize=6
)


def apply_operation(
    picture: Image.Image,
    operation: Operation,
    step: int,
    rng: np.random.Generator,
    resample: Image.Resampling,
) -> Image.Image:
    """Applies ``operation`` at magnitude ``step``, 0 to 30, with a random sign if it has one."""
    strength = operation.magnitude(step, picture.size)
    if operation.signed and rng.random() < 0.5:
        strength = -strength
    return operation.apply(picture, strength, resample)


@register("rand_augment")
@dataclass(frozen=True)
class RandAugment:
    """Several random operations, one after the other, all at the same magnitude.

    1909.13719, with torchvision's set of operations and its scale of magnitudes, where 30 is the
    most; empty corners become black.

    Attributes:
        layers: how many operations.
        magnitude: a whole number from 0 to 30.
        interpolation: "nearest" or "bilinear", for the operations that move pixels.
    """

    layers: int = 2
    magnitude: int = 9
    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        if not isinstance(self.layers, int) or self.layers < 0:
            raise ValueError(f"layers is {self.layers!r}; it is a whole number, at least 0")
        if not isinstance(self.magnitude, int) or not 0 <= self.magnitude <= _TOP:
            raise ValueError(f"magnitude is {self.magnitude!r}; it is a whole number from 0 to 30")
        one_of(self.interpolation, "interpolation", _RESAMPLE)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image after ``layers`` operations."""
        return with_pillow(image, lambda picture: self._augment(picture, rng), "rand_augment")

    def _augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        operations = tuple(RAND_AUGMENT.values())
        for pick in rng.integers(len(operations), size=self.layers):
            resample = _RESAMPLE[self.interpolation]
            picture = apply_operation(picture, operations[pick], self.magnitude, rng, resample)
        return picture


@register("trivial_augment")
@dataclass(frozen=True)
class TrivialAugment:
    """One random operation at a random magnitude: nothing to tune.

    2103.10158, with its wide set of strengths as in torchvision; empty corners become black.

    Attributes:
        interpolation: "nearest" or "bilinear", for the operations that move pixels.
    """

    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        one_of(self.interpolation, "interpolation", _RESAMPLE)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image after one operation."""
        return with_pillow(image, lambda picture: self._augment(picture, rng), "trivial_augment")

    def _augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        operations = tuple(TRIVIAL_AUGMENT_WIDE.values())
        operation = operations[int(rng.integers(len(operations)))]
        step = int(rng.integers(BINS))
        return apply_operation(picture, operation, step, rng, _RESAMPLE[self.interpolation])
