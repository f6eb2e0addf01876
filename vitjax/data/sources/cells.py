"""Images of invented tissue: segmentation data without a download."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import cv2
import numpy as np
from scipy import ndimage, spatial

from vitjax.core.validation import Bounds, NonNegativeInt
from vitjax.data.identity import Identified, Identity, of_words
from vitjax.data.sample import Sample
from vitjax.data.sources.base import register
from vitjax.data.sources.mask_classes import MaskSource

_CLASSES = ("background", "cell")
_SPACING = 24.0  # pixels between the middles of neighbouring cells, about
_LEAST_AREA = 40  # pixels; a smaller part is not a cell
_RIM = 2.0  # pixels: width of the dark membrane, from the edge of a cell outwards


@dataclass(frozen=True)
class CellSplit(Identified):
    """A `SizedSplit` of invented tissue; images are kept once they are made.

    Attributes:
        seed: of the tissue.
        split: number of the split, which has images of its own.
        count: number of images.
        side: height and width in pixels.
        title: what errors call the split.
    """

    seed: int
    split: int
    count: int
    side: int
    title: str
    _made: dict[int, Sample] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return self.count

    def __reduce__(self) -> tuple[object, ...]:
        # Drawing is faster than sending images to a worker process.
        return CellSplit, (self.seed, self.split, self.count, self.side, self.title)

    def read(self, index: int) -> Sample:
        """The image, its classes and which cell each pixel belongs to."""
        if index not in self._made:
            self._made[index] = draw(
                np.random.default_rng([self.seed, self.split, index]), self.side
            )
        return self._made[index]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width)."""
        return self.side, self.side

    def name(self, index: int) -> str:
        """The split and the row."""
        return f"{self.title}[{index}]"

    def identity(self) -> Identity:
        """The settings that the images follow from."""
        return of_words("cells", self.seed, self.split, self.side)


@register("cells", target="mask")
def cells(
    size: Annotated[int, Bounds(at_least=32, at_most=2**12)] = 128,
    train: Annotated[int, Bounds(at_least=1, at_most=10**6)] = 200,
    val: Annotated[int, Bounds(at_least=0, at_most=10**6)] = 40,
    test: Annotated[int, Bounds(at_least=0, at_most=10**6)] = 40,
    tissue: NonNegativeInt = 0,
) -> MaskSource:
    """Invented microscope images: touching cells of irregular outline and their membranes.

    Cells are grey, textured and hold dark organelles; a dark membrane is around each, and where
    there is room between two membranes it is bright or grey. Light is uneven and the image noisy,
    so no threshold finds the cells. Class 0 is background with membranes, class 1 is cell; the
    number of each cell is known too. The same keywords give the same images, and image 7 of a split
    does not depend on the number of images. Images are uint8, (size, size, 1).

    Args:
        size: height and width in pixels. Cells do not grow with it.
        train: images to train on.
        val: images to validate on.
        test: images to test on.
        tissue: seed of the tissue.
    """
    counts = {"train": train, "val": val, "test": test}
    splits = {
        name: CellSplit(tissue, number, count, size, f"cells {name}")
        for number, (name, count) in enumerate(counts.items())
        if count
    }
    return MaskSource(splits, _CLASSES, channels=1)


def draw(rng: np.random.Generator, side: int) -> Sample:
    """One image of ``side`` x ``side`` pixels, with classes and the number of each cell."""
    # Drawn with a margin, so that cells at the edge of the image look like all others.
    margin = 16
    around = side + 2 * margin
    instances, gap = _tissue(rng, around)
    inside = instances > 0
    count = int(instances.max()) + 1

    grey = np.where(inside, rng.uniform(0.40, 0.68, count)[instances], 0.0)
    grain = _smooth(rng, around, 1.2) * rng.uniform(0.02, 0.06, count)[instances]
    grey += np.where(inside, grain + 0.05 * _smooth(rng, around, 5.0), 0.0)
    organelles = _organelles(rng, instances)
    grey -= organelles * (grey - 0.18)

    away = ndimage.distance_transform_edt(~inside)
    filling = np.where(gap, 0.92, 0.95) + 0.04 * _smooth(rng, around, 2.0)
    dark = 0.14 + 0.03 * _smooth(rng, around, 1.5)
    rim = 1 / (1 + np.exp(-(away - _RIM - 0.8) / 0.35))
    grey = np.where(inside, grey, dark + rim * (filling - dark))

    grey = cv2.GaussianBlur(grey, (0, 0), 0.55)
    light = 1 + 0.11 * _smooth(rng, around, around / 4)
    grey = grey * light + 0.03 * _smooth(rng, around, around / 3)
    grey += rng.normal(0, 0.035, grey.shape)
    cut = slice(margin, margin + side)
    image = np.clip(np.round(grey[cut, cut] * 235), 0, 255).astype(np.uint8)
    cells_ = instances[cut, cut]
    _, numbers = np.unique(cells_, return_inverse=True)
    numbers = numbers.reshape(cells_.shape) + (cells_.min() > 0)
    return Sample(
        image[..., None],
        mask=(cells_ > 0).astype(np.int32),
        instances=numbers.astype(np.int32),
    )


def _tissue(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each pixel, 0 for none, and where a cell is missing, both (side, side)."""
    steps = np.arange(-_SPACING, side + 2 * _SPACING, _SPACING)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1)
    grid[::2, :, 1] += _SPACING / 2  # rows shifted against each other, as in a honeycomb
    middles = (grid + rng.uniform(-0.36, 0.36, grid.shape) * _SPACING).reshape(-1, 2)
    place = np.moveaxis(np.mgrid[:side, :side], 0, -1).astype(np.float64)
    for scale, reach in ((12.0, 3.6), (4.0, 1.0)):  # outlines bend at two scales
        place += reach * np.stack([_smooth(rng, side, scale) for _ in range(2)], axis=-1)
    distance, nearest = spatial.cKDTree(middles).query(place, k=2)
    pair = np.linalg.norm(middles[nearest[..., 0]] - middles[nearest[..., 1]], axis=-1)
    # How far from the line between two middles: exact on straight outlines.
    border = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * np.maximum(pair, 1e-6))
    half_width = np.clip(2.6 + 1.2 * _smooth(rng, side, 10.0), 1.3, 6.0)
    missing = rng.random(len(middles)) < 0.1
    gap = missing[nearest[..., 0]]
    instances = np.where((border > half_width) & ~gap, nearest[..., 0] + 1, 0)
    return _connected_cells(instances), gap


def _connected_cells(instances: np.ndarray) -> np.ndarray:
    """Cells numbered from 1, each its largest connected part, without slivers."""
    cells_ = np.zeros(instances.shape, np.int32)
    count = 0
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        # Morphological opening removes spikes one pixel wide from the outline.
        part = ndimage.binary_opening(instances[box] == number, iterations=1)
        pieces, _ = ndimage.label(part)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        if sizes.max() >= _LEAST_AREA:
            count += 1
            cells_[box][pieces == sizes.argmax()] = count
    return cells_


def _organelles(rng: np.random.Generator, instances: np.ndarray) -> np.ndarray:
    """The fraction of each pixel that is organelle; they keep off the edges of their cells."""
    side = len(instances)
    covered = np.zeros((side, side))
    room = np.argwhere(ndimage.distance_transform_edt(instances > 0) > 4)
    if not len(room):
        return covered
    y, x = np.mgrid[:side, :side]
    for middle in room[rng.integers(len(room), size=side * side // 420)]:
        radius = rng.uniform(1.2, 3.2)
        stretch, angle = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
        low = np.maximum(middle - 6, 0)
        box = tuple(slice(a, b + 7) for a, b in zip(low, middle, strict=True))
        dy, dx = y[box] - middle[0], x[box] - middle[1]
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
        drop = 1 / (1 + np.exp((np.hypot(u, v) - radius) / 0.4))
        covered[box] = np.maximum(covered[box], drop)
    return covered * (instances > 0)


def _smooth(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Noise (side, side) that changes over ``scale`` pixels, of mean 0 and standard deviation 1."""
    # Made small and enlarged where it is smooth in any case.
    shrink = max(1, int(scale / 2))
    small = -(-side // shrink) + 4
    noise = cv2.GaussianBlur(rng.normal(size=(small, small)), (0, 0), scale / shrink)
    noise = (noise - noise.mean()) / (noise.std() + 1e-12)
    if shrink > 1:
        noise = cv2.resize(noise, (small * shrink, small * shrink), interpolation=cv2.INTER_CUBIC)
    return noise[:side, :side]
