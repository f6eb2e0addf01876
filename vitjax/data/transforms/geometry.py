"""Resizing, cropping, padding and the symmetries of a rectangle."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vitjax.core.validation import Fraction, Side
from vitjax.data.errors import DataError
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import Size, Transform, register
from vitjax.data.transforms.moving import (
    Border,
    flipped,
    padded,
    rescaled,
    rescaled_window,
    turned,
    window,
)
from vitjax.data.transforms.pixels import resized
from vitjax.data.transforms.values import AreaSpan, Interpolation, Margin, Sides, Span, pair

# Of a resized image. With more pixels, only the part that is cut out of it is made; with more than
# `_MOST_PIXELS`, nothing else is.
_MANY_PIXELS, _MOST_PIXELS = 2**26, 2**28
_TRIES = 10  # as torchvision: attempts at a random box that fits before a safe one is taken


@register("resize")
@dataclass(frozen=True)
class Resize(Transform):
    """Resizes: images with antialiasing, masks and instances by nearest neighbour.

    Attributes:
        size: one integer for the shorter side, keeping the aspect ratio, or (height, width).
        interpolation: of images. "area" is the exact mean of the pixels covered.
    """

    random = False
    reversible = True

    size: Sides
    interpolation: Interpolation = "bicubic"

    def sized(self, size: Size | None) -> Size | None:
        """The new size."""
        if not isinstance(self.size, int):
            return pair(self.size)
        if size is None:
            return None
        longer = int(self.size * max(size) / min(size))
        return (self.size, longer) if size[0] <= size[1] else (longer, self.size)

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """The maps at the old size, bilinearly."""
        return resized(maps, size, "bilinear")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample at its new size."""
        size = self.sized(sample.size)
        assert size is not None  # as one was given
        if math.prod(size) > _MOST_PIXELS:
            height, width = sample.size
            raise DataError(
                f"resize({self.size}) would make {size[0]}x{size[1]} pixels of an image of"
                f" {height}x{width}, which do not fit into memory; put crop or center_crop right"
                " after it, which takes a part without making the rest"
            )
        return rescaled(sample, size, self.interpolation)

    def enlarges(self, size: Size) -> bool:
        """Whether an image of ``size`` becomes so large that `cut` is to be used, such as 1x8000.

        The others are resized and then cut, in which pixels are rounded differently at times.
        """
        larger = self.sized(size)
        assert larger is not None  # as a size was given
        return math.prod(larger) > _MANY_PIXELS

    def cut(self, sample: Sample, part: Cut, rng: np.random.Generator) -> Sample:
        """The result of ``part`` for the resized sample, without making the rest of it."""
        size = self.sized(sample.size)
        assert size is not None  # as one was given
        top, left = part.place(size, rng)
        return rescaled_window(
            sample, size, self.interpolation, top, left, pair(part.size), part.border
        )


@register("pad_to_multiple")
@dataclass(frozen=True)
class PadToMultiple(Transform):
    """Adds mirrored pixels that do not count below and to the right, up to a multiple.

    Attributes:
        multiple: divisor of the new height and width: 16 for a U-Net of depth 4.
    """

    random = False
    reversible = True

    multiple: Side

    def sized(self, size: Size | None) -> Size | None:
        """The next multiple."""
        if size is None:
            return None
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """The maps without the pixels that were added."""
        return maps[: size[0], : size[1]]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The larger sample."""
        size = self.sized(sample.size)
        assert size is not None  # as one was given
        return padded(sample, size)


class Cut(Transform):
    """A transform that takes a part of the sample.

    Attributes:
        size: of the part: one integer, or (height, width).
        border: what stands outside of the image, see `vitjax.data.transforms.moving.window`.
    """

    size: Sides
    border: ClassVar[Border]

    @abstractmethod
    def place(self, size: Size, rng: np.random.Generator) -> tuple[int, int]:
        """(top, left) of the part of an image of ``size``."""

    def sized(self, size: Size | None) -> Size | None:
        """That of the part."""
        return pair(self.size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The part of the sample."""
        top, left = self.place(sample.size, rng)
        return window(sample, top, left, pair(self.size), self.border)


@register("center_crop")
@dataclass(frozen=True)
class CenterCrop(Cut):
    """Takes the middle; a smaller image is padded with black pixels that do not count.

    Attributes:
        size: one integer, or (height, width).
    """

    random = False
    border = "black"

    size: Sides

    def place(self, size: Size, rng: np.random.Generator) -> tuple[int, int]:
        """That of the middle."""
        top, left = (
            -((want - have) // 2) if want > have else round((have - want) / 2)
            for have, want in zip(size, pair(self.size), strict=True)
        )
        return top, left


@register("crop")
@dataclass(frozen=True)
class Crop(Cut):
    """Takes a part at a random place; a smaller image stands at a random place of mirrored context.

    Attributes:
        size: one integer, or (height, width).
    """

    border = "mirror"

    size: Sides

    def place(self, size: Size, rng: np.random.Generator) -> tuple[int, int]:
        """A random one."""
        room = [have - want for have, want in zip(size, pair(self.size), strict=True)]
        top, left = (int(rng.integers(min(r, 0), max(r, 0) + 1)) for r in room)
        return top, left


@register("pad_and_crop")
@dataclass(frozen=True)
class PadAndCrop(Transform):
    """Pads all four sides, then takes a part at random: the CIFAR augmentation.

    He et al. 2016, arXiv 1512.03385, section 4.2 (with zeros).

    Attributes:
        size: of the part: one integer, or (height, width); at most that of the padded image.
        padding: pixels to add on each side.
        mode: "reflect" mirrors without doubling the edge; "constant" adds black pixels that do not
            count.
    """

    size: Sides
    padding: Margin = 4
    mode: Literal["reflect", "constant"] = "reflect"

    def sized(self, size: Size | None) -> Size | None:
        """That of the part."""
        return pair(self.size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A part of the padded sample."""
        size, pad = pair(self.size), self.padding
        height, width = sample.size
        down, right = height + 2 * pad - size[0], width + 2 * pad - size[1]
        if down < 0 or right < 0:
            raise DataError(
                f"pad_and_crop cannot take {size[0]}x{size[1]} out of an image of"
                f" {height}x{width} with {pad} pixels on each side; put"
                f" resize({max(size)}) before it"
            )
        top, left = int(rng.integers(down + 1)) - pad, int(rng.integers(right + 1)) - pad
        return window(sample, top, left, size, "mirror" if self.mode == "reflect" else "black")


@register("random_resized_crop")
@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """Resizes a part of random area and aspect ratio: the Inception crop.

    Szegedy et al. 2015, arXiv 1409.4842, section 6. The part is drawn as torchvision draws it: the
    area uniformly, the ratio uniformly in its logarithm, ten tries, then the largest part in the
    middle whose ratio is allowed.

    Attributes:
        size: of the result: one integer, or (height, width).
        scale: area of the part as a fraction of the image's, (least, most).
        ratio: width of the part over its height, (least, most).
        interpolation: of images, with antialiasing.
    """

    size: Sides
    scale: AreaSpan = (0.08, 1.0)
    ratio: Span = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bicubic"

    def sized(self, size: Size | None) -> Size | None:
        """That of the result."""
        return pair(self.size)

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

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A part of the sample at the new size."""
        part = self.box(*sample.size, rng)
        return rescaled(sample, pair(self.size), self.interpolation, part)


@register("flip")
@dataclass(frozen=True)
class Flip(Transform):
    """Exchanges left and right.

    Attributes:
        p: probability.
    """

    p: Fraction = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample, mirrored or as it was."""
        return flipped(sample, columns=bool(rng.random() < self.p))


@register("flips")
@dataclass(frozen=True)
class Flips(Transform):
    """Exchanges left and right, and top and bottom, each with probability 0.5."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample in one of four positions."""
        down, right = rng.choice([-1, 1], 2)
        return flipped(sample, rows=bool(down < 0), columns=bool(right < 0))


@register("dihedral")
@dataclass(frozen=True)
class Dihedral(Transform):
    """One of the eight symmetries of a square: quarter turns and mirror images.

    For an image that is not square, one of the four that keep its size.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample in one of eight positions."""
        height, width = sample.size
        turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
        step = int(rng.choice([-1, 1]))
        return flipped(turned(sample, turns), columns=step < 0)


@register("shift")
@dataclass(frozen=True)
class Shift(Transform):
    """Moves by random whole pixels; what comes from outside is mirrored.

    Attributes:
        pixels: the most, either way, vertically and horizontally; drawn uniformly.
    """

    pixels: Margin

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The moved sample."""
        top, left = rng.integers(-self.pixels, self.pixels + 1, 2).tolist()
        return window(sample, top, left, sample.size)
