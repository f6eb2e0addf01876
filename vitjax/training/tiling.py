"""Images of any size, predicted tile by tile: the device never holds more than one batch of tiles.

An unpadded model's tiles overlap in what is fed and lie side by side in what comes out, with the
image mirrored at its borders: the overlap-tile strategy of Ronneberger et al. 2015, arXiv
1505.04597, Figure 2. A padded model sees less at a tile's borders than at its middle, so there
tiles overlap and are blended.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Num

from vitjax.objectives.segmentation import mirror
from vitjax.registry import ConfigError

# Of the side of a padded model's tile, the share that overlaps with the next.
OVERLAP = 0.25

Image = Num[np.ndarray, "height width channels"]
Probabilities = Float[np.ndarray, "height width classes"]


class Tiler:
    """Predicts images of any size in tiles of one size; compiled once.

    Attributes:
        tile: the side in pixels of what the model is fed.
        batch_size: how many tiles it is fed at once.
    """

    def __init__(self, objective: Any, variables: Any, tile: int, batch_size: int = 4):
        """Prepares.

        Args:
            objective: with ``per_pixel``, see `vitjax.objectives.Segmentation`.
            variables: the model's, one copy.
            tile: the least side in pixels of what the model is fed; for an unpadded model the
                nearest valid size above it is taken.
            batch_size: tiles that are predicted at once.

        Raises:
            ConfigError: ``tile`` is no size, or leaves no pixel of output.
        """
        model = objective.model
        self._margin: int = getattr(model, "margin", 0)
        if isinstance(tile, bool) or not isinstance(tile, int) or tile < 1:
            raise ConfigError(f"a tile's side is {tile!r}; it should be a number of pixels")
        if tile <= self._margin:
            raise ConfigError(
                f"a tile's side is {tile}; the model loses {self._margin} pixels at its borders, so"
                f" {model.valid_size(self._margin + 1)} is the least"
            )
        self.tile = tile
        self.batch_size = batch_size
        # Pooling joins pixels from a tile's first on: only tiles that begin at a multiple of what
        # it joins give what the whole image gives.
        self._step = 1
        if self._margin:
            self.tile = model.valid_size(tile)
            self._step = model.valid_size(self.tile + 1) - self.tile
            while self.tile - self._margin < self._step:
                self.tile = model.valid_size(self.tile + 1)
        self._variables = variables
        self._predict = jax.jit(objective.per_pixel)

    def __call__(self, image: Image, *, tta: bool = False) -> Probabilities:
        """The probability of every class at every pixel.

        Args:
            image: as the objective's batches hold images.
            tta: average over the 8 flips and rotations of the image.
        """
        if not tta:
            return self._tiled(image)
        total: Any = None
        for turns, flip in itertools.product(range(4), (False, True)):
            found = turned_back(self._tiled(turned(image, turns, flip)), turns, flip)
            if total is None:
                total = np.ascontiguousarray(found)
            else:
                total += found
        total /= 8
        return total

    def _tiled(self, image: Image) -> Probabilities:
        height, width = image.shape[:2]
        rows, columns = self._places(height), self._places(width)
        grid = list(itertools.product(rows, columns))
        output: Any = None
        for first in range(0, len(grid), self.batch_size):
            chosen = grid[first : first + self.batch_size]
            # Filled up to one size of batch, which is compiled once.
            tiles = [self._cut(image, row.start, column.start) for row, column in chosen]
            tiles += [tiles[-1]] * (self.batch_size - len(tiles))
            found = np.asarray(self._predict(self._variables, np.stack(tiles)))
            if output is None:
                output = np.zeros((height, width, found.shape[-1]), np.float32)
            for part, (row, column) in zip(found, chosen, strict=False):
                weight = row.weight[:, None, None] * column.weight[None, :, None]
                inside = part[: len(row.weight), : len(column.weight)]
                output[
                    row.start : row.start + len(row.weight),
                    column.start : column.start + len(column.weight),
                ] += (inside * weight).astype(np.float32)
        return output

    def _cut(self, image: Image, top: int, left: int) -> Image:
        before = self._margin // 2

        def places(start: int, length: int) -> np.ndarray:
            after = max(0, start + self.tile - before - length)
            return mirror(length, before, after)[start : start + self.tile]

        rows = image[places(top, image.shape[0])]
        return rows[:, places(left, image.shape[1])]

    def _places(self, length: int) -> list[Place]:
        return cover(length, self.tile - self._margin, self._step if self._margin else None)


class Place:
    """Where a tile's output begins along one axis, and how much each of its pixels weighs."""

    def __init__(self, start: int, weight: Float[np.ndarray, "pixels"]):
        self.start, self.weight = start, weight


def cover(length: int, side: int, step: int | None) -> list[Place]:
    """Tiles that cover ``length`` pixels; at every pixel their weights add up to one.

    Args:
        length: of the image along one axis.
        side: of a tile's output, in pixels.
        step: None: tiles overlap and are blended. A number, no more than ``side``: they begin at
            multiples of it, and each pixel is that of one tile.
    """
    if step is not None:
        stride = side // step * step
        starts = range(0, length, stride)
        return [Place(at, np.ones(min(stride, length - at), np.float32)) for at in starts]
    if length <= side:
        return [Place(0, np.ones(length, np.float32))]
    stride = max(1, round(side * (1 - OVERLAP)))
    count = -(-(length - side) // stride) + 1
    starts_ = np.round(np.linspace(0, length - side, count)).astype(int)
    # Half a sine, squared: smooth, and never 0.
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(length)
    for at in starts_:
        total[at : at + side] += window
    return [Place(int(at), (window / total[at : at + side]).astype(np.float32)) for at in starts_]


def turned(image: Any, turns: int, flip: bool) -> Any:
    """``image`` (height, width, ...) flipped left to right, or not, and turned by quarters."""
    return np.rot90(image[:, ::-1] if flip else image, turns)


def turned_back(image: Any, turns: int, flip: bool) -> Any:
    """The image that `turned` was given."""
    image = np.rot90(image, -turns)
    return image[:, ::-1] if flip else image
