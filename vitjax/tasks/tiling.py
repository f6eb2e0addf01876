"""Images of any size, predicted tile by tile: the device never holds more than one batch of tiles.

An unpadded model's tiles overlap in what is fed and lie side by side in what comes out, with the
image mirrored at its borders: the overlap-tile strategy of Ronneberger et al. 2015, arXiv
1505.04597, Figure 2. A padded model sees less at a tile's borders than at its middle, so there
tiles overlap and are blended.
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
from vitjax.data.transforms.moving import mirrored

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
        self._margin: int = model.margin
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
        return np.concatenate(list(self.bands(image, tta=tta)))

    def bands(self, image: Image, *, tta: bool = False) -> Iterator[Probabilities]:
        """What `__call__` gives, some rows at a time, from the first to the last.

        No more of it is held than the rows of a tile.

        Args:
            image: as the objective's batches hold images.
            tta: average over the 8 flips and rotations of the image.
        """
        height, width = image.shape[:2]
        tiles = self._tiles(height, width, tta)
        rows: Any = None
        top = 0
        for first in range(0, len(tiles), self.batch_size):
            chosen = tiles[first : first + self.batch_size]
            fed = [tile.cut(image) for tile in chosen]
            # Filled up to one size of batch, which is compiled once.
            fed += [fed[-1]] * (self.batch_size - len(fed))
            found = np.asarray(self._predict(self._variables, np.stack(fed)))
            if rows is None:
                rows = np.zeros((self.tile - self._margin, width, found.shape[-1]), np.float32)
            for tile, part in zip(chosen, found, strict=False):
                # Tiles come by their first row: to those above it none adds any more.
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
        """All tiles, of all flips and rotations, by the first row that they predict."""
        ways = (False, True) if tta else (False,)
        tiles = [
            Tile(row, column, turned, 1 / len(ways) ** 3)
            for turned, up, left in itertools.product(ways, repeat=3)
            for row in self._places(height, up)
            for column in self._places(width, left)
        ]
        return sorted(tiles, key=lambda tile: tile.rows.start)

    def _places(self, length: int, reverse: bool) -> list[Place]:
        """Where tiles are along an axis of so many pixels, or of its mirror image."""
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
    """Where a tile is along one axis of an image.

    Attributes:
        start: the first pixel that it predicts.
        weight: of each pixel that it predicts, in the order in which they are fed.
        fed: the image's pixels that the model is fed.
        reverse: whether these run from the last to the first.
    """

    start: int
    weight: Float[np.ndarray, "pixels"]
    fed: Int[np.ndarray, "side"]
    reverse: bool

    @property
    def stop(self) -> int:
        """Behind the last pixel that it predicts."""
        return self.start + len(self.weight)


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of an image as the model is fed it.

    Attributes:
        rows: where it is.
        columns: where it is.
        turned: whether rows are fed as columns.
        share: of a pixel's prediction that this tile's flip or rotation has.
    """

    rows: Place
    columns: Place
    turned: bool
    share: float

    def cut(self, image: Image) -> Image:
        """The pixels that the model is fed."""
        tile = image[self.rows.fed][:, self.columns.fed]
        return tile.swapaxes(0, 1) if self.turned else tile

    def placed(self, part: Probabilities) -> Probabilities:
        """What the model makes of `cut`, weighted, as it lies in the image; in float32."""
        part = part.swapaxes(0, 1) if self.turned else part
        down, across = self.rows.weight * np.float32(self.share), self.columns.weight
        part = part[: len(down), : len(across)] * (down[:, None] * across)[..., None]
        part = part[:: -1 if self.rows.reverse else 1, :: -1 if self.columns.reverse else 1]
        return part.astype(np.float32, copy=False)


def cover(
    length: int, side: int, step: int | None
) -> list[tuple[int, Float[np.ndarray, "pixels"]]]:
    """The first pixel of each tile that helps to cover ``length`` pixels, and its pixels' weights.

    At every pixel of the image weights add up to one.

    Args:
        length: of the image along one axis.
        side: of a tile's output, in pixels.
        step: None: tiles overlap and are blended. A number, no more than ``side``: they begin at
            multiples of it, and each pixel is that of one tile.
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
    # Half a sine, squared: smooth, and never 0.
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(length)
    for at in places:
        total[at : at + side] += window
    return [(at, (window / total[at : at + side]).astype(np.float32)) for at in places]
