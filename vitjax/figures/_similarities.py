"""How alike the layers of two networks are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.figures import _canvas as canvas

_CELL = 0.3  # inches
_MOST = 40  # names along an axis
_LONGEST = 40


def layer_similarities(
    values: Any,
    networks: tuple[str, str],
    layers: tuple[Sequence[str], Sequence[str]],
    path: str | Path,
    *,
    heading: str = "",
) -> Path:
    """Draws the similarity of any two layers as a heat map, the first layers in the corner.

    Args:
        values: (layers of the first network, layers of the second), 1 for equal layers.
        networks: the names of both.
        layers: the names of their layers, in order of computation.
        path: the PNG file to write.
        heading: the title.

    Raises:
        ValueError: the names do not match the values.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(layers[0]), len(layers[1])):
        raise ValueError(
            f"values of {values.shape} for {len(layers[0])} and {len(layers[1])} layers"
        )
    height, width = (max(2.5, min(_MOST, len(each)) * _CELL) for each in layers)
    figure = canvas.new_figure(width + 3.6, height + 2.6, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(values, vmin=0, vmax=1, cmap="magma", origin="lower", aspect="auto")
    for names, set_ticks, network, label in (
        (layers[1], axes.set_xticks, networks[1], axes.set_xlabel),
        (layers[0], axes.set_yticks, networks[0], axes.set_ylabel),
    ):
        step = -(-len(names) // _MOST)
        shown = range(0, len(names), step)
        set_ticks(list(shown), [canvas.one_line(names[i], _LONGEST) for i in shown], fontsize=7)
        label(canvas.one_line(network, _LONGEST), fontsize=10)
    axes.tick_params(axis="x", rotation=90)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("CKA", fontsize=9)
    canvas.title(figure, heading)
    return canvas.save(figure, path)
