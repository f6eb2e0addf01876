"""Transforms that resample along a map of places: rotation, scaling, affine and elastic maps."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy import ndimage

from vitjax.core.validation import Bounds, Fraction
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import Size, Transform, register
from vitjax.data.transforms.moving import affine, warped
from vitjax.data.transforms.values import Distance, ZoomSpan

Degrees = Annotated[float, Bounds(at_least=0, at_most=180)]


@register("elastic")
@dataclass(frozen=True)
class Elastic(Transform):
    """Smooth random deformation: Ronneberger et al. 2015, arXiv 1505.04597, section 3.1.

    Displacements are drawn on a coarse grid whose corners are the image's, each component from a
    Gaussian; those of the pixels are interpolated bicubically. What comes from outside is mirrored.

    Attributes:
        sigma: standard deviation of the Gaussian in pixels.
        grid: displacement vectors along each side.
    """

    sigma: Distance = 10.0
    grid: Annotated[int, Bounds(at_least=2, at_most=256)] = 3

    def displacements(self, size: Size, rng: np.random.Generator) -> np.ndarray:
        """How far off each pixel is taken from: (2, height, width) as rows and columns."""
        coarse = rng.normal(0, self.sigma, (2, self.grid, self.grid))
        return _splines(size[0], self.grid) @ coarse @ _splines(size[1], self.grid).T

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The deformed sample."""
        height, width = sample.size
        rows, columns = self.displacements((height, width), rng)
        return warped(sample, rows + np.arange(height)[:, None], columns + np.arange(width))


@functools.lru_cache(maxsize=32)
def _splines(length: int, knots: int) -> np.ndarray:
    """Cubic interpolation from ``knots`` values to ``length`` pixels, ends on ends: a matrix."""
    place = np.linspace(0, knots - 1, length)[None]
    columns = [
        ndimage.map_coordinates(unit, place, order=3, mode="mirror") for unit in np.eye(knots)
    ]
    return np.stack(columns, axis=-1)


@register("rotate")
@dataclass(frozen=True)
class Rotate(Transform):
    """Rotates about the middle by a random angle; what comes from outside is mirrored.

    Attributes:
        degrees: the most, either way, drawn uniformly; 180 is any angle.
    """

    degrees: Degrees = 180.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The rotated sample."""
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        return _about_the_middle(sample, np.array([[cos, -sin], [sin, cos]]))


@register("scale")
@dataclass(frozen=True)
class Scale(Transform):
    """Enlarges or shrinks about the middle within the image's size; the outside is mirrored.

    Attributes:
        factor: (least, most), drawn uniformly in its logarithm; above 1 enlarges.
    """

    factor: ZoomSpan = (0.8, 1.25)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The enlarged or shrunk sample."""
        low, high = self.factor
        factor = math.exp(rng.uniform(math.log(low), math.log(high)))
        return _about_the_middle(sample, np.eye(2) / factor)


def _about_the_middle(sample: Sample, matrix: np.ndarray) -> Sample:
    """The sample seen through ``matrix``, (2, 2) from new (y, x) to old, about the middle."""
    height, width = sample.size
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    rows = matrix[0, 0] * y + matrix[0, 1] * x + (height - 1) / 2
    columns = matrix[1, 0] * y + matrix[1, 1] * x + (width - 1) / 2
    return warped(sample, rows, columns)


@register("random_affine")
@dataclass(frozen=True)
class RandomAffine(Transform):
    """Rotates, scales, shears and shifts about the middle, all uniformly at random; bilinear.

    For small images such as digits, which a flip or a hard crop would turn into other classes.
    What comes from outside is of one value and does not count.

    Attributes:
        degrees: rotation, up to this many degrees either way.
        translate: shift, up to this fraction of the width and height.
        scale: (least, most) factor of size.
        shear: slant along the width, up to this many degrees either way.
        fill: value of image pixels from outside.
    """

    degrees: Degrees = 0.0
    translate: Fraction = 0.0
    scale: ZoomSpan = (1.0, 1.0)
    shear: Annotated[float, Bounds(at_least=0, at_most=80)] = 0.0
    fill: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The moved sample."""
        height, width = sample.size
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        slant = math.tan(math.radians(rng.uniform(-self.shear, self.shear)))
        factor = rng.uniform(*self.scale)
        shift = rng.uniform(-self.translate, self.translate, 2) * (width, height)
        cos, sin = factor * math.cos(angle), factor * math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, slant], [0.0, 1.0]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.column_stack([linear, middle + shift - linear @ middle])
        return affine(sample, matrix, fill=self.fill)
