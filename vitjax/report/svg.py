"""Charts as SVG: lines with bands, and reliability diagrams.

Colours are the variables of the page's style, so that charts follow its light and its dark form.
Text is escaped by `markupsafe`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

from vitjax.metrics.calibration import bins_of
from vitjax.report.numbers import name, number
from vitjax.training.page import Chart, Line

COLORS = 8  # of the style
_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 10, 36
_POINTS = 400  # of a line
_MARKED = 30  # with at most so many points, each is marked
_LARGEST = 1e100  # greater numbers overflow in the computation of axes


class _Axes:
    """Places of values in a chart."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log: bool = False):
        self.log = log
        self._x, self._y = x, (tuple(map(math.log10, y)) if log else y)

    def x(self, value: float) -> float:
        """The place of a value from left to right."""
        low, high = self._x
        return _LEFT + (value - low) / ((high - low) or 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """The place of a value from top to bottom."""
        low, high = self._y
        value = math.log10(value) if self.log else value
        return _TOP + (high - value) / ((high - low) or 1) * (_HEIGHT - _TOP - _BOTTOM)


def chart(drawn: Chart) -> Markup:
    """A chart with its legend."""
    lines = [_clean(line) for line in drawn.lines]
    points = [_clean(line) for line in drawn.points]
    xs = np.concatenate([line.x for line in [*lines, *points]] or [np.zeros(0)])
    ys = np.concatenate([part for line in [*lines, *points] for part in _extent(line)])
    ys = ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return Markup("<p>{}: no finite value</p>").format(name(drawn.title))
    low, high = float(ys.min()), float(ys.max())
    log = low > 0 and high > 100 * low and not (drawn.fraction or drawn.from_zero)
    if drawn.from_zero:
        low = min(low, 0.0)
    if not log:
        room = 0.06 * ((high - low) or abs(high) or 1)
        bounds = (0.0, 1.0) if drawn.fraction and 0 <= low <= high <= 1 else (-math.inf, math.inf)
        below = 0.0 if drawn.from_zero and low == 0 else room
        low, high = max(low - below, bounds[0]), min(high + room, bounds[1])
    axes = _Axes((float(xs.min()), float(xs.max())), (low, high), log)
    parts = [_frame(axes, _ticks(*axes._x), _y_ticks(low, high, log), drawn.x, drawn.fraction)]
    if drawn.y:
        parts.append(
            Markup(
                '<text transform="translate(12 {:.1f}) rotate(-90)" text-anchor="middle">'
            ).format((_TOP + _HEIGHT - _BOTTOM) / 2)
            + Markup("{}</text>").format(name(drawn.y, 30))
        )
    for place, line in enumerate(lines):
        color = place if line.group is None else line.group
        parts.append(_line(axes, line, color % COLORS, drawn.fraction))
    for place, line in enumerate(points):
        color = (len(lines) + place) % COLORS
        for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):  # type: ignore[union-attr]
            if math.isfinite(y):
                parts.append(_circle(axes, x, y, color, 4, line.name, drawn.fraction))
    last = "; ".join(
        f"{name(line.name)} ends at {_last(line, drawn.fraction)}"
        if drawn.ends
        else name(line.name)
        for line in lines
    )
    picture = _svg(f"{name(drawn.title)} by {name(drawn.x)}: {last}", parts)
    shown = [
        (line, place if line.group is None else line.group) for place, line in enumerate(lines)
    ] + [(line, len(lines) + place) for place, line in enumerate(points)]
    return Markup("<figure class=chart><figcaption>{}</figcaption>{}{}</figure>").format(
        name(drawn.title), picture, _legend(shown, drawn.fraction, drawn.ends)
    )


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> Markup:
    """The accuracy of predictions by their probability, and how many have it."""
    place = bins_of(np.asarray(confidence, np.float64), bins)
    counts = np.bincount(place, minlength=bins)
    known = np.maximum(counts, 1)
    accuracy = np.bincount(place, np.asarray(right, np.float64), minlength=bins) / known
    mean = np.bincount(place, np.asarray(confidence, np.float64), minlength=bins) / known
    axes = _Axes((0.0, 1.0), (0.0, 1.0))
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = [_frame(axes, ticks, ticks, "probability of the predicted class", True, True)]
    for i in np.flatnonzero(counts).tolist():
        left, edge = axes.x(i / bins), axes.x((i + 1) / bins)
        top, base = axes.y(float(accuracy[i])), axes.y(0.0)
        share = counts[i] / counts.sum()
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"'
                ' fill-opacity="{:.2f}"><title>{}</title></rect>'
            ).format(
                left + 1,
                top,
                edge - left - 2,
                max(base - top, 0.5),
                0.25 + 0.75 * share**0.5,
                f"{counts[i]:,} predictions of mean probability {mean[i]:.1%}: {accuracy[i]:.1%}"
                " are right",
            )
        )
    parts.append(
        Markup('<line class="ideal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
            axes.x(0), axes.y(0), axes.x(1), axes.y(1)
        )
    )
    return _svg("Reliability diagram: the accuracy of predictions by their probability", parts)


def _clean(line: Line) -> Line:
    """A line of at most `_POINTS` points, without numbers that axes cannot show."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    y = np.where(np.abs(y) <= _LARGEST, y, np.nan)
    half = None if line.half_width is None else np.asarray(line.half_width, np.float64)
    if len(x) > _POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
        x, y, half = x[kept], y[kept], None if half is None else half[kept]
    return line._replace(x=x, y=y, half_width=half)


def _extent(line: Line) -> list[np.ndarray]:
    """The values of a line, and the ends of its band."""
    y = np.asarray(line.y)
    if line.half_width is None:
        return [y]
    half = np.asarray(line.half_width)
    return [y, y - half, y + half]


def _line(axes: _Axes, line: Line, color: int, fraction: bool) -> Markup:
    x, y = np.asarray(line.x), np.asarray(line.y)
    found = Markup("")
    if line.half_width is not None:
        half = np.nan_to_num(np.asarray(line.half_width))
        known = np.isfinite(y) & (not axes.log or (y - half > 0))
        upper = [
            f"{axes.x(a):.1f},{axes.y(b):.1f}"
            for a, b in zip(x[known], (y + half)[known], strict=True)
        ]
        lower = [
            f"{axes.x(a):.1f},{axes.y(b):.1f}"
            for a, b in zip(x[known], (y - half)[known], strict=True)
        ]
        found += Markup('<polygon class="band f{}" points="{}"/>').format(
            color, " ".join([*upper, *reversed(lower)])
        )
    for part in _finite_runs(y):
        places = " ".join(f"{axes.x(x[i]):.1f},{axes.y(y[i]):.1f}" for i in part)
        found += Markup('<polyline class="line c{}" points="{}"/>').format(color, places)
    if len(x) <= _MARKED:
        for i in np.flatnonzero(np.isfinite(y)):
            found += _circle(axes, float(x[i]), float(y[i]), color, 2.5, line.name, fraction)
    return found


def _circle(
    axes: _Axes, x: float, y: float, color: int, radius: float, of: str, fraction: bool
) -> Markup:
    return Markup(
        '<circle class="f{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
    ).format(color, axes.x(x), axes.y(y), radius, f"{name(of)}: {number(y, fraction)} at {x:.6g}")


def _finite_runs(values: np.ndarray) -> Iterable[np.ndarray]:
    """The places of values without a gap between them."""
    known = np.flatnonzero(np.isfinite(values))
    return [part for part in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(part)]


def _frame(
    axes: _Axes,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_name: str,
    fraction: bool,
    x_fraction: bool = False,
) -> Markup:
    """Grid lines, the numbers at them, and the name of the horizontal axis."""
    found = Markup("")
    for value in y_ticks:
        y = axes.y(value)
        found += Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(_LEFT, _WIDTH - _RIGHT, _LEFT - 5, y + 4, _tick(value, fraction), y=y)
    for value in x_ticks:
        found += Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            axes.x(value), _HEIGHT - _BOTTOM + 15, _tick(value, x_fraction)
        )
    return found + Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, name(x_name, 40)
    )


def _tick(value: float, fraction: bool) -> str:
    if fraction:
        return f"{100 * value:.3g}%"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.4g}"


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _y_ticks(low: float, high: float, log: bool) -> list[float]:
    if not log:
        return _ticks(low, high)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10.0**power for power in powers[:: max(1, len(powers) // 5)]]


def _last(line: Line, fraction: bool) -> str:
    known = np.asarray(line.y)[np.isfinite(np.asarray(line.y))]
    return number(float(known[-1]), fraction) if len(known) else "no finite value"


def _legend(lines: Sequence[tuple[Line, int]], fraction: bool, ends: bool) -> Markup:
    """The names of lines, with their last values; of several lines of a group, the first's."""
    found, seen = Markup(""), set()
    for line, color in lines:
        if line.name in seen:
            continue
        seen.add(line.name)
        last = Markup("")
        if ends:
            last = Markup(' <b title="last value">{}</b>').format(_last(line, fraction))
        found += Markup('<li><i class="b{}"></i>{}{}</li>').format(
            color % COLORS, name(line.name), last
        )
    return Markup("<ul class=legend>{}</ul>").format(found)


def _svg(alt: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, alt, Markup("").join(parts)
    )
