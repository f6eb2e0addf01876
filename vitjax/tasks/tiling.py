"""Prediction of images of any size in tiles: the device holds one batch of tiles at a time.

The input tiles of an unpadded model overlap, its output tiles are adjacent, and the image is
mirrored at its borders: the overlap-tile strategy of Ronneberger et al. 2015, arXiv 1505.04597,
Figure 2. A padded model has less context at the borders of a tile than in its middle, so its tiles
overlap and are blended.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Num

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt, check_value
from vitjax.data.transforms.moving import mirrored
from vitjax.objectives import Segmenter

# The fraction of the tile side by which tiles of a padded model overlap.
OVERLAP = 0.25

Image = Num[np.ndarray, "height width channels"]
Probabilities = Float[np.ndarray, "height width classes"]


class Tiler:
    """Predicts images of any size in tiles of one size; compiled once.

    Attributes:
        tile: the side in pixels of the input tiles.
        batch_size: the number of tiles in a batch.
    """

    def __init__(self, objective: Segmenter, variables: Any, tile: int, batch_size: int = 4):
        """Prepares.

        Args:
            objective: the objective of the run.
            variables: those of the objective, one copy.
            tile: the smallest side in pixels of the input tiles; an unpadded model uses the next
                valid size.
            batch_size: the number of tiles in a batch.

        Raises:
            ConfigError: ``tile`` is not a positive integer, or leaves no output pixel.
        """
        model = objective.model
        self._margin: int = model.margin
        check_value(tile, PositiveInt, "--tile")
        if tile <= self._margin:
            raise ConfigError(
                f"--tile is {tile}; the model loses {self._margin} pixels at its borders, so it"
                f" must be at least {model.valid_size(self._margin + 1)}"
            )
        self.tile = tile
        self.batch_size = batch_size
        # Pooling windows start at the first pixel of a tile: only tiles that start at a multiple of
        # the window reproduce the prediction of the complete image.
        self._step = 1
        if self._margin:
            self.tile = model.valid_size(tile)
            self._step = model.valid_size(self.tile + 1) - self.tile
            while self.tile - self._margin < self._step:
                self.tile = model.valid_size(self.tile + 1)
        self._variables = variables
        self._predict = jax.jit(objective.per_pixel)

    def __call__(self, image: Image, *, tta: bool = False) -> Probabilities:
        """The probability of each class at each pixel.

        Args:
            image: an image as in the objective's batches.
            tta: whether to average over the 8 flips and quarter turns of the image.
        """
        return np.concatenate(list(self.bands(image, tta=tta)))

    def bands(self, image: Image, *, tta: bool = False) -> Iterator[Probabilities]:
        """Yields the result of `__call__` from top to bottom, some rows at a time.

        Only the rows of one tile are in memory.

        Args:
            image: an image as in the objective's batches.
            tta: whether to average over the 8 flips and quarter turns of the image.
        """
        height, width = image.shape[:2]
        tiles = self._tiles(height, width, tta)
        rows: Any = None
        top = 0
        for first in range(0, len(tiles), self.batch_size):
            chosen = tiles[first : first + self.batch_size]
            fed = [tile.cut(image) for tile in chosen]
            # Padded to a full batch, which is compiled once.
            fed += [fed[-1]] * (self.batch_size - len(fed))
            found = np.asarray(self._predict(self._variables, np.stack(fed)))
            if rows is None:
                rows = np.zeros((self.tile - self._margin, width, found.shape[-1]), np.float32)
            for tile, part in zip(chosen, found, strict=False):
                # Tiles are sorted by their first row: the rows above it are complete.
                done = tile.rows.start - top
                if done:
                    yield rows[:done].copy()
                    rows[:-done] = rows[done:]
                    rows[-done:] = 0
                    top += done
                place = rows[: len(tile.rows.weight), tile.columns.start : tile.columns.stop]
                place += tile.placed(part)
        yield rows[: height - top].copy()

    def _tiles(self, height: int, width: int, tta: bool) -> list[Tile]:
        """The tiles of all flips and quarter turns, sorted by the first row that they predict."""
        options = (False, True) if tta else (False,)
        tiles = [
            Tile(row, column, turned, 1 / len(options) ** 3)
            for turned, up, left in itertools.product(options, repeat=3)
            for row in self._places(height, up)
            for column in self._places(width, left)
        ]
        return sorted(tiles, key=lambda tile: tile.rows.start)

    def _places(self, length: int, reverse: bool) -> list[Place]:
        """The places of tiles along an axis of ``length`` pixels, or of its mirror image."""
        before = self._margin // 2
        step = self._step if self._margin else None
        places = []
        for start, weight in cover(length, self.tile - self._margin, step):
            fed = mirrored(start - before, self.tile, length)
            if reverse:
                start, fed = length - start - len(weight), length - 1 - fed
            places.append(Place(start, weight, fed, reverse))
        return places


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a tile along one axis of an image.

    Attributes:
        start: the first pixel that it predicts.
        weight: the weight of each pixel that it predicts, in input order.
        fed: the pixels of the image that are its input.
        reverse: whether the input runs from the last pixel to the first.
    """

    start: int
    weight: Float[np.ndarray, "pixels"]
    fed: Int[np.ndarray, "side"]
    reverse: bool

    @property
    def stop(self) -> int:
        """The end of the pixels that it predicts."""
        return self.start + len(self.weight)


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of an image that is predicted at once.

    Attributes:
        rows: its place along the height.
        columns: its place along the width.
        turned: whether rows are fed as columns.
        fraction: the weight of its flip or quarter turn.
    """

    rows: Place
    columns: Place
    turned: bool
    fraction: float

    def cut(self, image: Image) -> Image:
        """The input of the model."""
        tile = image[self.rows.fed][:, self.columns.fed]
        return tile.swapaxes(0, 1) if self.turned else tile

    def placed(self, part: Probabilities) -> Probabilities:
        """The weighted output for `cut`, in the orientation of the image; float32."""
        part = part.swapaxes(0, 1) if self.turned else part
        down, across = self.rows.weight * np.float32(self.fraction), self.columns.weight
        part = part[: len(down), : len(across)] * (down[:, None] * across)[..., None]
        part = part[:: -1 if self.rows.reverse else 1, :: -1 if self.columns.reverse else 1]
        return part.astype(np.float32, copy=False)


def cover(
    length: int, side: int, step: int | None
) -> list[tuple[int, Float[np.ndarray, "pixels"]]]:
    """The first pixel of each tile along an axis, and the weights of its pixels.

    The weights sum to 1 at each pixel of the image.

    Args:
        length: the number of pixels of the image.
        side: the number of output pixels of a tile.
        step: None: tiles overlap and are blended. A number of at most ``side``: tiles start at
            multiples of it, and each pixel is in one tile.
    """
    if step is not None:
        stride = side // step * step
        starts = range(0, length, stride)
        return [(at, np.ones(min(stride, length - at), np.float32)) for at in starts]
    if length <= side:
        return [(0, np.ones(length, np.float32))]
    stride = max(1, round(side * (1 - OVERLAP)))
    count = -(-(length - side) // stride) + 1
    places = np.round(np.linspace(0, length - side, count)).astype(int).tolist()
    # A squared half period of a sine: smooth, and never 0.
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(length)
    for at in places:
        total[at : at + side] += window
    return [(at, (window / total[at : at + side]).astype(np.float32)) for at in places]
