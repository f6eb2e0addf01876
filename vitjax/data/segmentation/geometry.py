"""Transforms that move image and mask by one geometry.

Images and weights are resampled bilinearly, masks by nearest neighbour; what comes from outside is
the image mirrored at its borders, without doubling the edge.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from scipy import ndimage

from vitjax.data.segmentation.pairs import Pair
from vitjax.data.segmentation.transforms import (
    PairTransform,
    Size,
    each_array,
    padded,
    register,
    window,
)
from vitjax.data.transforms.pixels import INTERPOLATIONS, number, one_of, resized, sides, span


def warp(pair: Pair, rows: np.ndarray, columns: np.ndarray) -> Pair:
    """The pair resampled: pixel (i, j) comes from (rows[i, j], columns[i, j]).

    Args:
        pair: what to resample.
        rows: in pixels, (height, width), also outside.
        columns: the same.
    """
    x, y = columns.astype(np.float32), rows.astype(np.float32)

    def remapped(array: np.ndarray, interpolation: int) -> np.ndarray:
        return cv2.remap(
            np.ascontiguousarray(array), x, y, interpolation, borderMode=cv2.BORDER_REFLECT_101
        )

    def numbers(array: np.ndarray) -> np.ndarray:
        # OpenCV resamples whole numbers of 16 bits in all its versions.
        return remapped(array.astype(np.int16), cv2.INTER_NEAREST).astype(np.int32)

    return Pair(
        remapped(pair.image, cv2.INTER_LINEAR).reshape(*x.shape, -1),
        numbers(pair.label),
        None if pair.instances is None else numbers(pair.instances),
        None if pair.weight is None else remapped(pair.weight, cv2.INTER_LINEAR),
    )


def _linear(pair: Pair, matrix: np.ndarray) -> Pair:
    """The pair seen through ``matrix``, (2, 2) from new (y, x) to old, about the middle."""
    height, width = pair.label.shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    rows = matrix[0, 0] * y + matrix[0, 1] * x + (height - 1) / 2
    columns = matrix[1, 0] * y + matrix[1, 1] * x + (width - 1) / 2
    return warp(pair, rows, columns)


@functools.lru_cache(maxsize=32)
def _splines(length: int, knots: int) -> np.ndarray:
    """Cubic interpolation from ``knots`` values to ``length`` pixels, ends on ends: a matrix."""
    place = np.linspace(0, knots - 1, length)[None]
    columns = [
        ndimage.map_coordinates(unit, place, order=3, mode="mirror") for unit in np.eye(knots)
    ]
    return np.stack(columns, axis=-1)


@register("elastic")
@dataclass(frozen=True)
class Elastic(PairTransform):
    """Smooth random deformation: 1505.04597, section 3.1.

    Random displacements on a coarse grid whose corners are the image's, each component from a
    Gaussian; those of each pixel by bicubic interpolation.

    Attributes:
        sigma: the Gaussian's deviation in pixels.
        grid: displacement vectors along each side.
    """

    sigma: float = 10.0
    grid: int = 3

    def __post_init__(self) -> None:
        number(self.sigma, "sigma", 0)
        if isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < 2:
            raise ValueError(f"grid is {self.grid!r}; it is a whole number, at least 2")

    def displacements(self, size: Size, rng: np.random.Generator) -> np.ndarray:
        """How far off each pixel is taken from: (2, height, width) as rows and columns."""
        coarse = rng.normal(0, self.sigma, (2, self.grid, self.grid))
        return _splines(size[0], self.grid) @ coarse @ _splines(size[1], self.grid).T

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, bent."""
        height, width = pair.label.shape
        rows, columns = self.displacements((height, width), rng)
        return warp(pair, rows + np.arange(height)[:, None], columns + np.arange(width))


@register("shift")
@dataclass(frozen=True)
class Shift(PairTransform):
    """Moves by whole pixels, drawn uniformly.

    Attributes:
        pixels: the most, in either direction, up or down and left or right.
    """

    pixels: int

    def __post_init__(self) -> None:
        if isinstance(self.pixels, bool) or not isinstance(self.pixels, int) or self.pixels < 0:
            raise ValueError(f"pixels is {self.pixels!r}; it is a whole number")

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, moved."""
        top, left = rng.integers(-self.pixels, self.pixels + 1, 2).tolist()
        height, width = pair.label.shape
        return window(pair, top, left, (height, width))


@register("rotate")
@dataclass(frozen=True)
class Rotate(PairTransform):
    """Turns about the middle by an angle drawn uniformly.

    Attributes:
        degrees: the most, either way; 180 is any angle.
    """

    degrees: float = 180.0

    def __post_init__(self) -> None:
        number(self.degrees, "degrees", 0, 180)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, turned."""
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        return _linear(pair, np.array([[cos, -sin], [sin, cos]]))


@register("scale")
@dataclass(frozen=True)
class Scale(PairTransform):
    """Enlarges or shrinks about the middle, keeping the size of the picture.

    Attributes:
        factor: (least, most), drawn uniformly in its logarithm; above 1 enlarges.
    """

    factor: tuple[float, float] = (0.8, 1.25)

    def __post_init__(self) -> None:
        span(self.factor, "factor", 0.05, 20)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, enlarged or shrunk."""
        low, high = self.factor
        return _linear(pair, np.eye(2) / math.exp(rng.uniform(math.log(low), math.log(high))))


@register("flip")
@dataclass(frozen=True)
class Flip(PairTransform):
    """Mirrors left and right.

    Attributes:
        p: the probability.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number(self.p, "p", 0, 1)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, mirrored or as it was."""
        return each_array(pair, lambda array: array[:, ::-1]) if rng.random() < self.p else pair


@register("flips")
@dataclass(frozen=True)
class Flips(PairTransform):
    """Mirrors left and right, and up and down, each in half of all cases."""

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair in one of four positions."""
        down, right = (slice(None, None, int(step)) for step in rng.choice([-1, 1], 2))
        return each_array(pair, lambda array: array[down, right])


@register("dihedral")
@dataclass(frozen=True)
class Dihedral(PairTransform):
    """One of the eight symmetries of a square: quarter turns and mirror images.

    Of a picture that is not square, one of the four that keep its size.
    """

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair in one of eight positions."""
        height, width = pair.label.shape
        turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
        step = int(rng.choice([-1, 1]))
        return each_array(pair, lambda array: np.rot90(array, turns)[:, ::step])


@register("crop")
@dataclass(frozen=True)
class Crop(PairTransform):
    """Cuts out a tile at a random place; where a tile is larger, mirrored context is around it.

    Attributes:
        size: one whole number of pixels, or (height, width).
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        sides(self.size)

    def sized(self, size: Size | None) -> Size | None:
        """That of the tile."""
        return sides(self.size)

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """A tile."""
        size = sides(self.size)
        # Of a tile that is larger, the image lies anywhere inside.
        room = [have - want for have, want in zip(pair.label.shape, size, strict=True)]
        top, left = (int(rng.integers(min(r, 0), max(r, 0) + 1)) for r in room)
        return window(pair, top, left, size)


@register("resize")
@dataclass(frozen=True)
class Resize(PairTransform):
    """Resizes: the image with antialiasing, the mask by nearest neighbour.

    Attributes:
        size: one whole number for the shorter side, keeping the aspect ratio, or (height, width).
        interpolation: of the image: "bilinear", "bicubic", "lanczos" or "area".
    """

    random: ClassVar[bool] = False

    size: int | tuple[int, int]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        sides(self.size)
        one_of(self.interpolation, "interpolation", INTERPOLATIONS)

    def sized(self, size: Size | None) -> Size | None:
        """The new one."""
        if not isinstance(self.size, int):
            return sides(self.size)
        if size is None:
            return None
        short, long = min(size), max(size)
        longer = int(self.size * long / short)
        return (self.size, longer) if size[0] <= size[1] else (longer, self.size)

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """The maps at the old size, bilinearly."""
        return resized(maps, size, "bilinear")

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair at its new size."""
        height, width = pair.label.shape
        size = self.sized((height, width))
        assert size is not None  # as one was given
        rows = np.minimum(((np.arange(size[0]) + 0.5) * height / size[0]).astype(int), height - 1)
        columns = np.minimum(((np.arange(size[1]) + 0.5) * width / size[1]).astype(int), width - 1)
        weight = pair.weight
        if weight is not None:
            weight = resized(weight[..., None], size, "bilinear")[..., 0]
        return Pair(
            resized(pair.image, size, self.interpolation),
            pair.label[rows][:, columns],
            None if pair.instances is None else pair.instances[rows][:, columns],
            weight,
        )


@register("pad_to_multiple")
@dataclass(frozen=True)
class PadToMultiple(PairTransform):
    """Adds mirrored pixels below and to the right, which count nowhere, up to a multiple.

    Attributes:
        multiple: what height and width are to be divided by: 16 for a U-Net of depth 4.
    """

    random: ClassVar[bool] = False

    multiple: int

    def __post_init__(self) -> None:
        if (
            isinstance(self.multiple, bool)
            or not isinstance(self.multiple, int)
            or self.multiple < 1
        ):
            raise ValueError(f"multiple is {self.multiple!r}; it is a whole number, at least 1")

    def sized(self, size: Size | None) -> Size | None:
        """The next multiple."""
        if size is None:
            return None
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """The maps without the pixels that were added."""
        return maps[: size[0], : size[1]]

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """The pair, larger."""
        height, width = pair.label.shape
        size = self.sized((height, width))
        assert size is not None  # as one was given
        return padded(pair, size)
