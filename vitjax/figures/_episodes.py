"""Few-shot learning: the effect of inner steps, and episodes before and after adaptation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable
from vitjax.figures._pixels import show

_RIGHT, _WRONG, _FAINT = "#2e8b57", "#c0392b", "#777777"
_COLORS = {"transductive": "#4c72b0", "inductive": "#dd8452"}
# Of an episode with more classes the first ones are drawn; above _ONE_COLUMN, in two columns.
_MOST_CLASSES = 20
_ONE_COLUMN = 8


def adaptation(
    modes: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | Path,
    *,
    what: str,
    fraction: bool,
    chance: float | None = None,
    heading: str = "",
) -> Path:
    """Draws a mean over episodes against the number of inner steps, with its 95% interval.

    Args:
        modes: for each mode by name, the mean after 0, 1, ... steps, and half the width of its
            interval. Modes with equal means are drawn as one line. Values that are not finite are
            gaps.
        path: the PNG file to write.
        what: the name of the metric.
        fraction: whether the metric is a fraction, drawn in percent.
        chance: the value of guessing; None for no line.
        heading: the title.
    """
    figure = canvas.new_figure(5.6, 3.8, layout="constrained")
    axes = figure.add_subplot()
    scale = 100.0 if fraction else 1.0
    lines = _merged(modes)
    last = 0
    for name, (means, widths) in lines.items():
        values = drawable(means) * scale
        widths = np.nan_to_num(drawable(widths)) * scale
        steps = np.arange(len(values))
        last = max(last, len(values) - 1)
        color = next((c for mode, c in _COLORS.items() if name.startswith(mode)), _FAINT)
        shown = (
            f"{values[-1]:.2f} ± {widths[-1]:.2f}%"
            if fraction
            else f"{values[-1]:.3g} ± {widths[-1]:.2g}"
        )
        axes.fill_between(steps, values - widths, values + widths, color=color, alpha=0.2, lw=0)
        axes.plot(
            steps,
            values,
            color=color,
            marker="o",
            markersize=4,
            lw=1.6,
            label=f"{canvas.label(name, 60)}: {shown}",
        )
    if chance is not None:
        label = f"chance: {chance * scale:.3g}{'%' if fraction else ''}"
        axes.axhline(chance * scale, color=_FAINT, linestyle=":", lw=1.2, label=label)
    axes.set_xlabel("inner steps on the support set", fontsize=9)
    canvas.title(figure, heading)
    axes.set_ylabel(f"{canvas.one_line(what, 40)}{' (%)' if fraction else ''}", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlim(-0.03 * max(last, 1), 1.03 * max(last, 1))
    if fraction:
        axes.set_ylim(0, 102)
    else:
        axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.8)
    return canvas.save(figure, path)


def _merged(modes: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """``modes``, or a single entry for all of them if their means are equal."""
    first, *others = modes.values()
    if others and all(np.array_equal(first[0], other[0], equal_nan=True) for other in others):
        return {" and ".join(modes): first}
    return dict(modes)


def episode(
    support: tuple[Any, Int[np.ndarray, "supports"]],
    query: tuple[Any, Int[np.ndarray, "queries"]],
    class_names: Sequence[str],
    path: str | Path,
    *,
    before: Int[np.ndarray, "queries"] | None = None,
    after: Int[np.ndarray, "queries"] | None = None,
    captions: Sequence[str] | None = None,
    titles: tuple[str, str] = ("support", "queries"),
    heading: str = "",
) -> Path:
    """Draws one episode: a row per class with its support images and the first of its queries.

    With predictions, "class before → class after" is written below each query, green for a correct
    class and red for a wrong one; the frame has the colour of the class after adaptation. A method
    that does not adapt has no class before.

    Args:
        support: images, see `pixels`, and their labels.
        query: images and labels of the queries.
        class_names: the name of each label.
        path: the PNG file to write.
        before: the predicted label of each query before adaptation.
        after: the predicted label of each query after adaptation.
        captions: the text below each query, for queries without predictions.
        titles: what is written above support images and above queries.
        heading: the title, of one or more lines.
    """
    shown = min(len(class_names), _MOST_CLASSES)
    many = shown > _ONE_COLUMN
    side, gap = (0.62, 0.08) if many else (0.85, 0.1)
    names = [_two_lines(name) for name in class_names[:shown]]
    name_width = 0.45 + 0.055 * max(len(line) for name in names for line in name)
    supports = [np.flatnonzero(support[1] == label) for label in range(shown)]
    queries = [np.flatnonzero(query[1] == label) for label in range(shown)]
    most = (3, 4) if many else (5, 6)
    across = [
        min(limit, max(map(len, x))) for limit, x in zip(most, (supports, queries), strict=True)
    ]
    caption = 0.2 if after is not None or captions is not None else 0.05
    columns = 2 if many else 1
    rows = math.ceil(shown / columns)
    block = name_width + sum(across) * (side + gap) + 0.3
    if shown < len(class_names):
        heading += f"\nthe first {shown} of {len(class_names)} classes"
    width = max(columns * block + (columns - 1) * 0.25 + 0.25, 5.5)
    lines = canvas.heading_lines(heading, width)
    top = max(canvas.heading_height(lines), 0.45) + 0.05
    figure = canvas.new_figure(width, top + rows * (side + gap + caption) + 0.08)
    canvas.write_heading(figure, lines)
    for column in range(columns):
        left = 0.15 + column * (block + 0.25) + name_width
        _title(figure, left, top, f"{titles[0]}{_of(across[0], supports)}")
        left += across[0] * (side + gap) + 0.25
        _title(figure, left, top, f"{titles[1]}{_of(across[1], queries)}")
    for label in range(shown):
        column, row = divmod(label, rows)
        left = 0.15 + column * (block + 0.25)
        above = top + row * (side + gap + caption)
        canvas.write(figure, left, above + 0.27, str(label + 1), fontsize=11, weight="bold")
        for line, text in enumerate(names[label]):
            style: dict[str, Any] = {"fontsize": 6.5, "color": "#444444", "ha": "left"}
            canvas.write(figure, left, above + 0.42 + 0.12 * line, text, **style)
        left += name_width
        for place, index in enumerate(supports[label][: across[0]].tolist()):
            axes = canvas.axes_at(figure, left + place * (side + gap), above, side, side)
            show(axes, support[0][index], side)
        left += across[0] * (side + gap) + 0.25
        for place, index in enumerate(queries[label][: across[1]].tolist()):
            at = left + place * (side + gap)
            axes = canvas.axes_at(figure, at, above, side, side)
            show(axes, query[0][index], side)
            if after is not None:
                guesses = [int(g[index]) for g in (before, after) if g is not None]
                _judge(figure, axes, at + side / 2, above + side, guesses, label)
            elif captions is not None:
                text = canvas.one_line(captions[index], 16)
                style = {"fontsize": 6.5, "color": "#444444", "ha": "center"}
                canvas.write(figure, at + side / 2, above + side + 0.15, text, **style)
    return canvas.save(figure, path)


def _two_lines(name: str, length: int = 24) -> list[str]:
    """``name`` on one line, or on two if it is longer than ``length``."""
    name = " ".join(str(name).split())
    if len(name) <= length:
        return [canvas.one_line(name, length)]
    ends = [place + 1 for place, letter in enumerate(name[:length]) if letter in "/ _-,"]
    end = ends[-1] if ends else length
    return [canvas.one_line(part, length) for part in (name[:end], name[end:])]


def _of(shown: int, found: Sequence[np.ndarray]) -> str:
    most = max(map(len, found))
    return f", {shown} of {most}" if shown < most else ""


def _title(figure: Figure, left: float, above: float, text: str) -> None:
    canvas.write(figure, left, above - 0.06, text, fontsize=8, color=_FAINT, ha="left")


def _judge(
    figure: Figure,
    axes: Axes,
    center: float,
    above: float,
    guesses: Sequence[int],
    label: int,
) -> None:
    """Writes "before → after", or the only prediction, below a query and frames it."""
    colors = [_RIGHT if guess == label else _WRONG for guess in guesses]
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colors[-1], linewidth=2)
    style: dict[str, Any] = {"fontsize": 8, "ha": "center"}
    offsets = (-0.16, 0.16) if len(guesses) == 2 else (0.0,)
    if len(guesses) == 2:
        canvas.write(figure, center, above + 0.17, "→", color=_FAINT, **style)
    for guess, color, offset in zip(guesses, colors, offsets, strict=True):
        text = str(guess + 1)
        canvas.write(
            figure, center + offset, above + 0.17, text, color=color, weight="bold", **style
        )


def fits(
    support: tuple[Float[np.ndarray, "episodes supports"], Float[np.ndarray, "episodes supports"]],
    curve: tuple[Float[np.ndarray, "points"], Float[np.ndarray, "episodes points"]],
    path: str | Path,
    *,
    predicted: Mapping[int, Float[np.ndarray, "episodes points"]] | None = None,
    query: tuple[Any, Any] | None = None,
    titles: Sequence[str] = (),
) -> Path:
    """Draws episodes of regression, one panel each, as in Figure 2 of arXiv:1703.03400.

    Args:
        support: x and y of the support points of each episode; NaN for masked points.
        curve: x, and the true y of each episode.
        path: the PNG file to write.
        predicted: the predicted y at the same x, by the number of inner steps. Values that are not
            finite are gaps.
        query: x and y of the queries of each episode.
        titles: the title of each panel.
    """
    episodes = len(curve[1])
    figure = canvas.new_figure(3.9 * episodes, 3.5, layout="constrained")
    panels: Any = figure.subplots(1, episodes, squeeze=False, sharey=True)
    styles = _styles(sorted(predicted or {}))
    for index, axes in enumerate(panels[0]):
        axes.plot(curve[0], curve[1][index], color="#b22222", lw=1.8, label="truth", zorder=2)
        for steps, style in styles.items():
            name = "before adaptation" if steps == 0 else f"{steps} step{'s' if steps > 1 else ''}"
            axes.plot(
                curve[0], drawable((predicted or {})[steps][index]), label=name, zorder=3, **style
            )
        if query is not None:
            point: dict[str, Any] = {"color": "#dd8452", "s": 18, "alpha": 0.8}
            axes.scatter(query[0][index], query[1][index], label="queries", zorder=4, **point)
        axes.scatter(
            support[0][index],
            support[1][index],
            marker="^",
            color="#6a3d9a",
            s=34,
            label="support",
            zorder=5,
        )
        if titles:
            line = canvas.one_line(titles[index], 60)
            axes.set_title(canvas.wrapped(line, 3.3, 10), fontsize=10)
        axes.set_xlabel("x", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    panels[0][0].set_ylabel("y", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    canvas.legend_below(figure, handles, labels, columns=len(labels))
    return canvas.save(figure, path)


def _styles(steps: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The line style of each number of steps; more steps have a stronger line."""
    greens = ("#a8d5ba", "#4fae7c", "#1b6b42")
    dashes = (":", "--", "-")
    styles = {}
    for place, number in enumerate(steps):
        strength = 2 if place == len(steps) - 1 and number else min(place, 1)
        styles[number] = {"color": greens[strength], "linestyle": dashes[strength], "lw": 1.8}
    return styles
