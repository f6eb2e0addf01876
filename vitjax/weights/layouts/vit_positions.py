"""How a sequence of position embeddings is arranged in rows and columns of patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vitjax.weights import sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import Known

# Grids of images that are longer than this many times their other side are not considered.
_MOST_OBLONG = 3
_LISTED_READINGS = 4


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way in which a sequence of positions can be read.

    Attributes:
        grid: (rows, columns) of patches.
        rows: the number of positions of other tokens, which come first.
        notes: as in `Description`.
    """

    grid: tuple[int, int]
    rows: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = "" if self.rows else " without a position of the class token"
        if self.rows:
            words = f" and {self.rows} position{'s'[: self.rows > 1]} of other tokens"
        return f"{self.grid[0]} x {self.grid[1]} patches{words}"


def positions_of(
    total: int, patch: Sequence[int], known: Known, positioned: Sequence[int]
) -> Reading:
    """How a sequence of ``total`` positions is read.

    A given grid decides, then the size of the images if it fits. Otherwise the patches form a
    square, unless the positions can as well be those of more tokens and an oblong: 225 are of
    15 x 15 patches, or of 14 x 16 and a class token.

    Args:
        total: the number of positions.
        patch: (height, width) of a patch.
        known: what is known of the images.
        positioned: as in `describe`.

    Raises:
        WeightsError: nothing decides between several readings, or no reading fits.
    """
    options = list(dict.fromkeys(positioned))
    if known.grid is not None:
        rows = total - known.grid[0] * known.grid[1]
        if rows in options:
            return Reading(known.grid, rows)
        raise WeightsError(
            f"the file has {total} positions, {' or '.join(map(str, options))} of them of other"
            f" tokens, so {total - options[0]} patches; a grid of {known.grid[0]} x"
            f" {known.grid[1]} has {known.grid[0] * known.grid[1]}"
        )
    squares = [
        Reading((side, side), rows)
        for rows in options
        if total > rows and (side := round((total - rows) ** 0.5)) ** 2 == total - rows
    ]
    usual = squares[0].rows if squares else None
    # Positions of more tokens are the rule, and then the patches form no square.
    rivals = [
        Reading(sides, rows)
        for rows in (options if usual is None else options[: options.index(usual)])
        for sides in _oblongs(total - rows)
    ]
    grid = sizes.grid_of(patch, known.image_size)
    if grid is not None and grid[0] * grid[1] > 0:
        rows = total - grid[0] * grid[1]
        if rows in options:
            found = Reading(grid, rows)
            if squares[:1] == [found] and not rivals:
                return found
            height, width = known.image_size or (0, 0)
            words = (
                f"its {total} positions are read as {found}, by the size of the images,"
                f" {height} x {width}; grid=(rows, columns) overrides it"
            )
            return dataclasses.replace(found, notes=(words,))
    if squares and not rivals:
        return squares[0]
    what = f"the file's {total} positions can be read in several ways"
    if not squares:
        of = " or ".join(map(str, options))
        what = (
            f"the file has {total} positions, {of} of them of other tokens: {total - options[0]}"
            " patches, which form no square"
        )
    readings = "".join(
        f"\n    grid={each.grid[0]},{each.grid[1]}: {each}, for images of"
        f" {each.grid[0] * patch[0]} x {each.grid[1] * patch[1]} pixels"
        for each in [*squares[:1], *rivals[:_LISTED_READINGS]]
    )
    raise WeightsError(
        f"{what}; give their grid: grid=(rows, columns), or the size of the images:"
        f" image_size=(height, width){readings}"
    )


def _oblongs(patches: int) -> list[tuple[int, int]]:
    """(rows, columns) of grids of ``patches`` that are no square, the most nearly square first."""
    sides = [n for n in range(round(patches**0.5), 0, -1) if patches > 0 and patches % n == 0]
    near = [(n, patches // n) for n in sides if n != patches // n <= _MOST_OBLONG * n]
    return [pair for short, long in near for pair in ((short, long), (long, short))]
