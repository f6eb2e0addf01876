"""Accuracies of networks on changed images, against how much they are changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable
from vitjax.figures._pixels import show

_FAINT = "#777777"
_LONGEST = 40
_COLUMNS = 5
_CELL, _CAPTION, _NAMES = 1.0, 0.17, 1.45  # inches


class Levels(NamedTuple):
    """A panel of curves.

    Attributes:
        title: of the panel.
        label: of the horizontal axis.
        values: the places along it.
        curves: for each network, its accuracy in 0..1 at each place.
        logarithmic: whether places are spaced evenly, as powers of 2 are.
    """

    title: str
    label: str
    values: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    logarithmic: bool = False


def corruptions(
    panels: Sequence[Levels], path: str | Path, *, chance: float, heading: str = ""
) -> Path:
    """Draws a small panel for each corruption, with a line per network.

    Args:
        panels: the corruptions, with the same networks.
        path: the PNG file to write.
        chance: the accuracy of guessing.
        heading: the title.
    """
    return _panels(panels, path, min(_COLUMNS, len(panels)), (2.25, 1.9), chance, heading)


def levels(panels: Sequence[Levels], path: str | Path, *, chance: float, heading: str = "") -> Path:
    """Draws a few panels beside each other, with a line per network; arguments as `corruptions`."""
    return _panels(panels, path, len(panels), (4.2, 3.4), chance, heading)


def examples_of_levels(
    rows: Mapping[str, Sequence[tuple[str, Any]]], path: str | Path, *, heading: str = ""
) -> Path:
    """Draws an image after several changes: a row per kind of change.

    More than ten rows are drawn in two columns.

    Args:
        rows: for each kind, the caption and the pixels of each image, (height, width, channels).
        path: the PNG file to write.
        heading: the title.
    """
    columns = 2 if len(rows) > 10 else 1
    per_column = math.ceil(len(rows) / columns)
    widest = max(map(len, rows.values()))
    block = _NAMES + widest * (_CELL + 0.06) + 0.25
    lines = canvas.heading_lines(heading, block * columns)
    top = canvas.heading_height(lines)
    figure = canvas.new_figure(block * columns, top + per_column * (_CELL + _CAPTION + 0.04) + 0.1)
    canvas.write_heading(figure, lines)
    for number, (name, cells) in enumerate(rows.items()):
        column, row = divmod(number, per_column)
        above = top + row * (_CELL + _CAPTION + 0.04) + _CAPTION
        left = column * block
        text = canvas.one_line(name, 24)
        canvas.write(
            figure, left + _NAMES - 0.1, above + _CELL / 2 + 0.06, text, fontsize=9, ha="right"
        )
        for place, (caption, image) in enumerate(cells):
            start = left + _NAMES + place * (_CELL + 0.06)
            show(canvas.axes_at(figure, start, above, _CELL, _CELL), image, _CELL)
            caption = canvas.one_line(caption, 18)
            canvas.write(figure, start + _CELL / 2, above - 0.02, caption, fontsize=7, ha="center")
    return canvas.save(figure, path)


def _panels(
    panels: Sequence[Levels],
    path: str | Path,
    columns: int,
    size: tuple[float, float],
    chance: float,
    heading: str,
) -> Path:
    rows = math.ceil(len(panels) / columns)
    height = rows * size[1] + 1.1
    figure = canvas.new_figure(max(columns * size[0] + 0.4, 5.0), height, layout="constrained")
    canvas.title(figure, heading)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.remove()
            continue
        _draw(axes, panels[place], chance)
        panel_title = canvas.wrapped(canvas.one_line(panels[place].title, 40), size[0] - 0.4, 9)
        axes.set_title(panel_title, fontsize=9)
        if place % columns == 0:
            axes.set_ylabel("accuracy (%)", fontsize=8)
        if place + columns >= len(panels):
            axes.set_xlabel(panels[place].label, fontsize=8)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    canvas.legend_below(figure, handles, labels)
    return canvas.save(figure, path)


def _draw(axes: Axes, panel: Levels, chance: float) -> None:
    places = range(len(panel.values)) if panel.logarithmic else drawable(panel.values)
    for number, (name, accuracies) in enumerate(panel.curves.items()):
        color, mark = canvas.network_style(number)
        axes.plot(
            places,
            100 * drawable(accuracies),
            color=color,
            marker=mark,
            markersize=3.5,
            linewidth=1.4,
            clip_on=False,
            label=canvas.label(name, _LONGEST),
        )
    axes.axhline(
        100 * chance,
        color=_FAINT,
        linestyle=":",
        linewidth=1.1,
        label=f"chance: {100 * chance:.3g}%",
    )
    if panel.logarithmic or len(panel.values) <= 6:
        axes.set_xticks(list(places), [f"{value:g}" for value in panel.values])
    axes.set_ylim(0, 102)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
