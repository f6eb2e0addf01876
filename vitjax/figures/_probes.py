"""Accuracies of probes on the layers of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable

_FAINT = "#777777"
_LONGEST_NAME = 40

# Depth, accuracy, and half the width of its interval.
Point = tuple[float, float, float | None]


def probes(
    networks: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | Path,
    *,
    chance: float,
    heading: str = "",
) -> Path:
    """Draws the accuracy of probes against the depth of their layers.

    The figure has a panel per kind of probe, and a line per network in each panel.

    Args:
        networks: for each network by name and each kind of probe, the same kinds for all: (depth
            in 0..1, accuracy in 0..1, half of its 95% interval or None), in the order of depth.
        path: the PNG file to write.
        chance: the accuracy of guessing.
        heading: the title.

    Returns:
        ``path``.
    """
    kinds = list(next(iter(networks.values())))
    columns = len(kinds) if len(kinds) <= 3 else math.ceil(len(kinds) / 2)
    rows = math.ceil(len(kinds) / columns)
    figure = canvas.new_figure(max(4.0 * columns, 6.0), 3.6 * rows + 0.9, layout="constrained")
    canvas.title(figure, heading)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(kinds):
            axes.remove()
            continue
        _draw(axes, kinds[place], networks, chance)
        if place % columns == 0:
            axes.set_ylabel("accuracy (%)", fontsize=9)
        if place + columns >= len(kinds):
            axes.set_xlabel("depth: 0 is the first layer, 1 the input of the head", fontsize=9)
            axes.tick_params(labelbottom=True)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    # matplotlib puts the line of chance first.
    canvas.legend_below(figure, [*handles[1:], handles[0]], [*labels[1:], labels[0]])
    return canvas.save(figure, path)


def _draw(
    axes: Axes, kind: str, networks: Mapping[str, Mapping[str, Sequence[Point]]], chance: float
) -> None:
    lowest = chance
    for number, (name, lines) in enumerate(networks.items()):
        depths, accuracies, halves = (drawable(values) for values in zip(*lines[kind], strict=True))
        lowest = float(np.nanmin([lowest, *accuracies]))
        color, mark = canvas.network_style(number)
        # Not clipped, so that the mark of an accuracy of 1 is complete.
        axes.errorbar(
            depths,
            100 * accuracies,
            yerr=100 * np.nan_to_num(halves),
            color=color,
            marker=mark,
            markersize=5,
            linewidth=1.7,
            elinewidth=1.0,
            capsize=2 if np.any(halves > 0) else 0,
            clip_on=False,
            label=canvas.label(name, _LONGEST_NAME),
        )
    axes.axhline(
        100 * chance,
        color=_FAINT,
        linestyle=":",
        linewidth=1.2,
        label=f"chance: {100 * chance:.3g}%",
    )
    axes.set_title(canvas.one_line(kind, 40), fontsize=10)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(max(0.0, 100 * lowest - 5), 101)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
