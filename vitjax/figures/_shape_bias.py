"""Shape bias of networks, a row per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable

_ROW = 0.34  # inches
_LONGEST = 40


class BiasLine(NamedTuple):
    """The marks of one network.

    Attributes:
        name: of the network.
        overall: the bias over all classes, and the lower and the upper end of its interval.
        classes: the bias of each class; NaN has no mark.
    """

    name: str
    overall: tuple[float, float, float]
    classes: Sequence[float]


def shape_bias(networks: Sequence[BiasLine], class_names: Sequence[str], path: str | Path) -> Path:
    """Draws shape bias from 0, texture, to 1, shape, with a row per class and a mark per network.

    As Fig. 4 of Geirhos et al. 2019, arXiv:1811.12231: the vertical line of a network is its bias
    over all classes, and the last row has the interval of that.

    Args:
        networks: their marks.
        class_names: the name of each row.
        path: the PNG file to write.

    Raises:
        ValueError: a network does not have a mark for each class.
    """
    for network in networks:
        if len(network.classes) != len(class_names):
            raise ValueError(
                f"{network.name}: {len(network.classes)} marks for {len(class_names)} classes"
            )
    last = len(class_names)
    height = _ROW * (last + 1) + 1.6 + 0.22 * len(networks)
    figure = canvas.new_figure(7.2, height, layout="constrained")
    axes = figure.add_subplot()
    for number, network in enumerate(networks):
        color, mark = canvas.network_style(number)
        # Beside each other, so that equal marks and intervals that overlap are seen.
        beside = 0.5 * ((number + 0.5) / len(networks) - 0.5)
        middle, low, high = (float(v) for v in drawable(network.overall))
        axes.axvline(middle, color=color, linewidth=1.2, alpha=0.6, zorder=1)
        axes.scatter(
            drawable(network.classes),
            [row + beside for row in range(last)],
            color=color,
            marker=mark,
            s=42,
            alpha=0.85,
            edgecolors="white",
            linewidths=0.6,
            clip_on=False,
            zorder=3,
            label=canvas.label(network.name, _LONGEST),
        )
        axes.errorbar(
            [middle],
            [last + beside],
            xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
            color=color,
            marker=mark,
            markersize=6.5,
            capsize=3,
            clip_on=False,
            zorder=3,
        )
    axes.axhline(last - 0.5, color="#444444", linewidth=0.8)
    names = [canvas.one_line(name, _LONGEST) for name in class_names]
    axes.set_yticks(range(last + 1), [*names, "all classes (95%)"], fontsize=8)
    axes.set_ylim(last + 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\ntexture", "0.25", "0.5", "0.75", "1\nshape"])
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel("shape bias: shape decisions / (shape + texture decisions)", fontsize=9)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", fontsize=9, frameon=False, ncols=1)
    return canvas.save(figure, path)
