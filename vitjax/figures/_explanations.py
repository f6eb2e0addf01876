"""What a network looks at, over the image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import ScalarFormatter

from vitjax.figures import _canvas as canvas
from vitjax.figures._pixels import pixels, show

_INCHES = 2.6
_COLUMNS = 5
_SMALL_INCHES, _SMALL_GAP = 1.5, 0.12
_OPACITY = 0.55
_GAP, _BAR, _CAPTION = 0.15, 0.1, 0.24  # inches
_BAR_LABELS = 0.45  # inches


def explanation(
    image: Any, maps: Mapping[str, Any], path: str | Path, *, heading: str = ""
) -> Path:
    """Draws an image, and each map beside its overlay on the image.

    Maps with numbers of both signs are drawn in red (for) and blue (against), others from dark to
    light. Of several maps only the overlays are drawn, at most five panels to a row.

    Args:
        image: (height, width[, channels]), as of `vitjax.figures.pixels`.
        maps: each (height, width) of the image, by the name of its method.
        path: the PNG file to write.
        heading: such as the class and its probability.

    Raises:
        ValueError: a map does not have the size of the image.
    """
    shape = np.shape(image)[:2]
    for name, one in maps.items():
        if np.shape(one) != shape:
            raise ValueError(f"{name}: a map of {np.shape(one)} for an image of {shape}")
    alone = len(maps) == 1
    panels = 1 + len(maps) + alone
    rows = -(-panels // _COLUMNS)
    columns = -(-panels // rows)
    height = _INCHES * shape[0] / shape[1]
    bar_width = _BAR + _BAR_LABELS
    # Of a single map only the last panel has a bar.
    across, down = _INCHES + _GAP + (0 if alone else bar_width), _CAPTION + height + _GAP
    width = columns * across + _GAP + (bar_width if alone else 0)
    lines = canvas.heading_lines(heading, width)
    top = canvas.heading_height(lines)
    figure = canvas.new_figure(width, top + rows * down)
    canvas.write_heading(figure, lines)
    places = itertools.count()

    def panel(title: str) -> tuple[float, float]:
        """Writes the title of the next panel and returns its place."""
        row, column = divmod(next(places), columns)
        left, above = _GAP + column * across, top + row * down + _CAPTION
        text = canvas.one_line(title, 40)
        canvas.write(figure, left + _INCHES / 2, above - 0.06, text, fontsize=9, ha="center")
        return left, above

    show(canvas.axes_at(figure, *panel("image"), _INCHES, height), image, _INCHES)
    for name, one in maps.items():
        scale, colours = _colours(one)
        coloured = ScalarMappable(scale, colours)
        if alone:
            axes = canvas.axes_at(figure, *panel(name), _INCHES, height)
            axes.imshow(one, cmap=colours, norm=scale, interpolation="nearest")
            axes.set_axis_off()
        left, above = panel("overlay" if alone else name)
        axes = canvas.axes_at(figure, left, above, _INCHES, height)
        axes.imshow(_blended(image, coloured.to_rgba(one)[..., :3]), interpolation="nearest")
        axes.set_axis_off()
        numbers = ScalarFormatter()
        numbers.set_powerlimits((-2, 3))
        beside = canvas.axes_at(figure, left + _INCHES + _GAP / 2, above, _BAR, height)
        bar = figure.colorbar(coloured, cax=beside, format=numbers)
        bar.ax.tick_params(labelsize=7)
        bar.ax.yaxis.get_offset_text().set_fontsize(7)
    return canvas.save(figure, path)


def randomisation(
    image: Any,
    maps: Mapping[str, Any],
    similarities: Mapping[str, Sequence[float]],
    layers: Sequence[int],
    path: str | Path,
    *,
    groups: int,
    heading: str = "",
) -> Path:
    """Draws the sanity check of maps: a row per method, with more random layers from left to right.

    Adebayo et al. 2018, arXiv:1810.03292, Fig. 2. Below each map is its rank correlation with the
    first one, that of the trained network, or why there is none, as of a constant map.

    Args:
        image: (height, width[, channels]), as of `vitjax.figures.pixels`.
        maps: each (columns, height, width), by the name of its method.
        similarities: the rank correlations (columns,) by the same names; NaN where they are
            undefined.
        layers: the number of groups of layers that are random in each column.
        path: the PNG file to write.
        groups: the number of groups of layers.
        heading: such as the class.

    Raises:
        ValueError: the numbers of columns differ, or a map does not have the size of the image.
    """
    shape, columns = np.shape(image)[:2], len(layers)
    for name, row in maps.items():
        if np.shape(row) != (columns, *shape) or len(similarities[name]) != columns:
            raise ValueError(
                f"{name}: maps of {np.shape(row)} with {len(similarities[name])} similarities for"
                f" {columns} columns and an image of {shape}"
            )
    side = _SMALL_INCHES
    height = side * shape[0] / shape[1]
    across, down = side + _SMALL_GAP, _CAPTION + height + _CAPTION + _SMALL_GAP
    width = (columns + 1) * across + _SMALL_GAP
    lines = canvas.heading_lines(heading, width)
    top = canvas.heading_height(lines)
    figure = canvas.new_figure(width, top + len(maps) * down)
    canvas.write_heading(figure, lines)
    style: dict[str, Any] = {"fontsize": 8, "ha": "center"}
    for number, (name, row) in enumerate(maps.items()):
        above = top + number * down + _CAPTION
        left = _SMALL_GAP
        canvas.write(figure, left + side / 2, above - 0.05, canvas.one_line(name, 26), **style)
        show(canvas.axes_at(figure, left, above, side, height), image, side)
        for one, count, similarity in zip(row, layers, similarities[name], strict=True):
            left += across
            middle = left + side / 2
            title = "trained" if count == 0 else f"{count} of {groups} random"
            canvas.write(figure, middle, above - 0.05, title, **style)
            scale, colours = _colours(one)
            axes = canvas.axes_at(figure, left, above, side, height)
            axes.imshow(one, cmap=colours, norm=scale, interpolation="nearest")
            axes.set_axis_off()
            below = _correlation(similarity, one)
            canvas.write(figure, middle, above + height + 0.18, below, **style)
    return canvas.save(figure, path)


def _correlation(similarity: float, one: np.ndarray) -> str:
    """The rank correlation of a map with that of the trained network, or why it has none."""
    if np.isfinite(similarity):
        return f"r = {similarity:.2f}"
    if not np.all(np.isfinite(one)):
        return "not finite"
    return "constant map" if np.all(one == one.flat[0]) else "r undefined"


def explained(image: Any, one: Any) -> np.ndarray:
    """A map over an image, in the colours of `explanation`: (height, width, 3) uint8."""
    scale, colours = _colours(one)
    blended = _blended(image, ScalarMappable(scale, colours).to_rgba(np.asarray(one))[..., :3])
    found: np.ndarray = (255 * np.clip(np.nan_to_num(blended), 0, 1)).round().astype(np.uint8)
    return found


def _colours(one: Any) -> tuple[Normalize, Any]:
    """The scale and the colours of a map."""
    finite = np.asarray(one)[np.isfinite(one)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0:
        far = max(-low, high)
        return Normalize(-far, far), matplotlib.colormaps["RdBu_r"]
    return Normalize(0, high or 1.0), matplotlib.colormaps["inferno"]


def _blended(image: Any, colours: np.ndarray) -> np.ndarray:
    """The colours over the image in grey."""
    drawn = pixels(image).astype(np.float64) / 255
    grey = drawn if drawn.ndim == 2 else drawn.mean(-1)
    return (1 - _OPACITY) * grey[..., None] + _OPACITY * colours
