"""RandAugment and TrivialAugment: random picks from a fixed set of operations."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vitjax.core.validation import Bounds
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import Transform, register
from vitjax.data.transforms.moving import affine, has_geometry
from vitjax.data.transforms.pixels import with_pillow

BINS = 31  # magnitudes 0 to 30, as torchvision's RandAugment and TrivialAugmentWide
_TOP = BINS - 1

_RESAMPLE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}

Extent = tuple[int, int]  # (width, height), as Pillow has it
Matrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Operation:
    """One operation of a policy.

    Attributes:
        magnitude: from the bin, 0 to 30, and the image's (width, height) to the strength.
        signed: whether the strength's sign is random.
        apply: from the image, the signed strength and the resampling filter to an image.
        matrix: for an operation that moves pixels, from strength and (width, height) to the six
            numbers that map a place (x, y) in the result to one in the image, with edges of pixels
            at integers.
    """

    magnitude: Callable[[int, Extent], float]
    signed: bool
    apply: Callable[[Image.Image, float, Image.Resampling], Image.Image]
    matrix: Callable[[float, Extent], Matrix] | None = None


def _moving(
    magnitude: Callable[[int, Extent], float], matrix: Callable[[float, Extent], Matrix]
) -> Operation:
    def apply(image: Image.Image, strength: float, resample: Image.Resampling) -> Image.Image:
        numbers = matrix(strength, image.size)
        return image.transform(image.size, Image.Transform.AFFINE, numbers, resample)

    return Operation(magnitude, True, apply, matrix)


def _rotation(degrees: float, extent: Extent) -> Matrix:
    x, y = extent[0] / 2, extent[1] / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float, Image.Resampling], Image.Image]:
    return lambda image, strength, resample: kind(image).enhance(1 + strength)


def _posterize(image: Image.Image, bits: float, resample: Image.Resampling) -> Image.Image:
    return ImageOps.posterize(image, int(bits))


def _solarize(image: Image.Image, threshold: float, resample: Image.Resampling) -> Image.Image:
    # Pillow inverts from the threshold on; ceil makes a fractional threshold mean the same.
    return ImageOps.solarize(image, int(np.ceil(threshold)))


def _operations(
    shear: float,
    translate: Callable[[int], float],
    rotate: float,
    enhance: float,
    posterize: int,
) -> Mapping[str, Operation]:
    """The fourteen operations with the strengths of one policy.

    Args:
        shear: the largest slant, pixels per pixel.
        translate: the largest shift in pixels along a side of the given length.
        rotate: the largest rotation in degrees.
        enhance: the largest change of a factor of brightness, colour, contrast or sharpness.
        posterize: how many of the eight bits the largest magnitude takes away.
    """

    def linear(top: float) -> Callable[[int, Extent], float]:
        return lambda step, extent: top * step / _TOP

    def along(axis: int) -> Callable[[int, Extent], float]:
        return lambda step, extent: translate(extent[axis]) * step / _TOP

    def nothing(step: int, extent: Extent) -> float:
        return 0.0

    return {
        "identity": Operation(nothing, False, lambda image, _, __: image),
        "shear_x": _moving(linear(shear), lambda x, _: (1, x, 0, 0, 1, 0)),
        "shear_y": _moving(linear(shear), lambda x, _: (1, 0, 0, x, 1, 0)),
        "translate_x": _moving(along(0), lambda x, _: (1, 0, -int(x), 0, 1, 0)),
        "translate_y": _moving(along(1), lambda x, _: (1, 0, 0, 0, 1, -int(x))),
        "rotate": Operation(linear(rotate), True, lambda i, x, r: i.rotate(x, r), _rotation),
        "brightness": Operation(linear(enhance), True, _enhance(ImageEnhance.Brightness)),
        "color": Operation(linear(enhance), True, _enhance(ImageEnhance.Color)),
        "contrast": Operation(linear(enhance), True, _enhance(ImageEnhance.Contrast)),
        "sharpness": Operation(linear(enhance), True, _enhance(ImageEnhance.Sharpness)),
        "posterize": Operation(
            lambda step, extent: 8 - round(posterize * step / _TOP), False, _posterize
        ),
        "solarize": Operation(lambda step, extent: 255 - 255 * step / _TOP, False, _solarize),
        "auto_contrast": Operation(nothing, False, lambda i, _, __: ImageOps.autocontrast(i)),
        "equalize": Operation(nothing, False, lambda i, _, __: ImageOps.equalize(i)),
    }


RAND_AUGMENT = _operations(
    shear=0.3, translate=lambda side: 150 / 331 * side, rotate=30, enhance=0.9, posterize=4
)
TRIVIAL_AUGMENT_WIDE = _operations(
    shear=0.99, translate=lambda side: 32, rotate=135, enhance=0.99, posterize=6
)


Step = tuple[Operation, float]  # and its signed strength


def draw_step(operation: Operation, bin_: int, extent: Extent, rng: np.random.Generator) -> Step:
    """``operation`` with its strength at magnitude ``bin_``, 0 to 30, of random sign if signed."""
    strength = operation.magnitude(bin_, extent)
    if operation.signed and rng.random() < 0.5:
        strength = -strength
    return operation, strength


class Policy(Transform):
    """Random operations, one after the other, on uint8 images of 1 or 3 channels.

    Those that move pixels move all fields. What comes from outside is black and does not count.
    """

    called: ClassVar[str]  # in pipelines
    interpolation: str

    @abstractmethod
    def steps(self, extent: Extent, rng: np.random.Generator) -> Sequence[Step]:
        """The operations for an image of (width, height) ``extent``, with their strengths."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample after all operations."""
        height, width = sample.size
        steps = self.steps((width, height), rng)

        def drawn(image: np.ndarray) -> np.ndarray:
            return with_pillow(image, lambda each: self._apply(each, steps), self.called)

        moved = sample
        if has_geometry(sample):
            for operation, strength in steps:
                if operation.matrix is not None:
                    inverse = operation.matrix(strength, (width, height))
                    moved = affine(moved, _of_middles(inverse), image=lambda image: image)
        second = sample.second_image
        return moved.replace(
            image=drawn(sample.image), second_image=None if second is None else drawn(second)
        )

    def _apply(self, image: Image.Image, steps: Sequence[Step]) -> Image.Image:
        for operation, strength in steps:
            image = operation.apply(image, strength, _RESAMPLE[self.interpolation])
        return image


def _of_middles(inverse: Matrix) -> np.ndarray:
    """From Pillow's matrix to the one from old to new (x, y) of the middles of pixels, (2, 3)."""
    numbers = np.reshape(np.asarray(inverse, np.float64), (2, 3))
    linear = np.linalg.inv(numbers[:, :2])
    offset = linear @ (0.5 - numbers[:, 2]) - 0.5
    return np.column_stack([linear, offset])


Resampling = Literal["nearest", "bilinear"]


@register("rand_augment")
@dataclass(frozen=True)
class RandAugment(Policy):
    """Several random operations, all at the same magnitude.

    Cubuk et al. 2020, arXiv 1909.13719, with torchvision's set of operations and its scale of
    magnitudes, where 30 is the largest.

    Attributes:
        layers: number of operations.
        magnitude: an integer from 0 to 30.
        interpolation: of images, by the operations that move pixels.
    """

    called = "rand_augment"

    layers: Annotated[int, Bounds(at_least=0, at_most=100)] = 2
    magnitude: Annotated[int, Bounds(at_least=0, at_most=_TOP)] = 9
    interpolation: Resampling = "nearest"

    def steps(self, extent: Extent, rng: np.random.Generator) -> Sequence[Step]:
        """The ``layers`` operations."""
        operations = tuple(RAND_AUGMENT.values())
        picks = rng.integers(len(operations), size=self.layers)
        return [draw_step(operations[pick], self.magnitude, extent, rng) for pick in picks]


@register("trivial_augment")
@dataclass(frozen=True)
class TrivialAugment(Policy):
    """One random operation at a random magnitude: nothing to tune.

    Müller and Hutter 2021, arXiv 2103.10158, with its wide set of strengths as in torchvision.

    Attributes:
        interpolation: of images, by the operations that move pixels.
    """

    called = "trivial_augment"

    interpolation: Resampling = "nearest"

    def steps(self, extent: Extent, rng: np.random.Generator) -> Sequence[Step]:
        """The one operation."""
        operations = tuple(TRIVIAL_AUGMENT_WIDE.values())
        operation = operations[int(rng.integers(len(operations)))]
        return [draw_step(operation, int(rng.integers(BINS)), extent, rng)]
