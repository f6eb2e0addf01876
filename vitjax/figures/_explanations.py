"""What a network looks at, over the image."""

from __future__ import annotations

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
_SMALL_INCHES = 1.5
_OPACITY = 0.55
_HEADING = 90  # characters


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
    height = _INCHES * shape[0] / shape[1] + 0.3
    figure = canvas.new_figure(
        columns * (_INCHES + 0.75), rows * height + 0.6, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    show(axes[0], image, _INCHES)
    axes[0].set_title("image", fontsize=9)
    places = iter(axes[1:])
    for name, one in maps.items():
        scale, colours = _colours(one)
        coloured = ScalarMappable(scale, colours)
        if alone:
            place = next(places)
            place.imshow(one, cmap=colours, norm=scale, interpolation="nearest")
            place.set_title(canvas.one_line(name, 40), fontsize=9)
        place = next(places)
        place.imshow(_blended(image, coloured.to_rgba(one)[..., :3]), interpolation="nearest")
        place.set_title("overlay" if alone else canvas.one_line(name, 40), fontsize=9)
        numbers = ScalarFormatter()
        numbers.set_powerlimits((-2, 3))
        bar = figure.colorbar(coloured, ax=place, fraction=0.046, pad=0.03, format=numbers)
        bar.ax.tick_params(labelsize=7)
        bar.ax.yaxis.get_offset_text().set_fontsize(7)
    for each in axes:
        each.set_axis_off()
    if heading:
        figure.suptitle(canvas.one_line(heading, _HEADING), fontsize=10)
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
    first one, that of the trained network.

    Args:
        image: (height, width[, channels]), as of `vitjax.figures.pixels`.
        maps: each (columns, height, width), by the name of its method.
        similarities: the rank correlations (columns,) by the same names.
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
    figure = canvas.new_figure(
        (columns + 1) * (side + 0.12), len(maps) * (height + 0.45) + 0.7, layout="constrained"
    )
    axes = figure.subplots(len(maps), columns + 1, squeeze=False)
    for places, (name, row) in zip(axes, maps.items(), strict=True):
        show(places[0], image, side)
        places[0].set_title(canvas.one_line(name, 26), fontsize=8)
        for place, one, count, similarity in zip(
            places[1:], row, layers, similarities[name], strict=True
        ):
            scale, colours = _colours(one)
            place.imshow(one, cmap=colours, norm=scale, interpolation="nearest")
            title = "trained" if count == 0 else f"{count} of {groups} random"
            place.set_title(title, fontsize=8)
            place.set_xlabel(f"r = {similarity:.2f}", fontsize=8)
        for place in places:
            place.set(xticks=(), yticks=(), frame_on=False)
    if heading:
        figure.suptitle(canvas.one_line(heading, _HEADING), fontsize=10)
    return canvas.save(figure, path)


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
