"""Curves of losses and metrics over the steps of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitjax.figures import _canvas as canvas

_COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#2e8b57"}
# Numbers about the machine and the run, which records have besides metrics.
_NOT_METRICS = re.compile(r"_per_second$|seconds$|^epoch$|examples$|^learning_rate|flops|^mfu$")
_MOST_PANELS = 6
# A line with more points than this is drawn smoothed.
_NOISY = 150
# Of a file of metrics that anyone may have written: what is kept of it in memory.
_MOST_POINTS = 2**20
_MOST_SERIES = 2**10
# Larger numbers overflow in the computation of axes.
_LARGEST = 1e100


class Declared(Protocol):
    """What `curves` needs to know of a metric, such as `vitjax.metrics.Declaration`."""

    @property
    def higher_is_better(self) -> bool | None:
        """Whether larger values are better; None for a number without a direction."""

    @property
    def unit(self) -> str:
        """``"fraction"`` is drawn in percent, another unit is part of the title."""


class _Plain(NamedTuple):
    higher_is_better: bool | None
    unit: str = ""


_UNDECLARED = _Plain(None)
_LOSS = _Plain(higher_is_better=False)

Series = Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def curves(
    records: Iterable[Mapping[str, Any]],
    path: str | Path,
    declarations: Mapping[str, Declared] | None = None,
) -> Path:
    """Draws the loss, the metrics and the learning rate over the steps of a run.

    Args:
        records: the lines of a run's ``metrics.jsonl``: ``step``, ``split`` and numbers. Of two
            records with the same step and split, as after a crash and a resume, the later counts.
            Values that are None or not finite are gaps, and the panel shows the first such step.
        path: the PNG file to write.
        declarations: the unit and direction of each metric. Metrics with a direction are drawn; the
            best value of a validation split is written to the legend. None draws every number that
            is reported on a held-out split, without units and directions.

    Returns:
        ``path``.

    Raises:
        ValueError: a record has no step.
    """
    series = read_series(records)
    shown = panels(series, declarations)
    if not shown:
        return canvas.message("Nothing has been reported yet", path)
    columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = canvas.new_figure(4.8 * columns, 3.5 * rows, layout="constrained")
    for index, (name, declared) in enumerate(shown.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        lines = {split: values for (metric, split), values in series.items() if metric == name}
        _draw_panel(axes, name, declared, lines)
    return canvas.save(figure, path)


def read_series(records: Iterable[Mapping[str, Any]]) -> Series:
    """Steps and values of each (metric, split), sorted by step.

    Of more than `_MOST_POINTS` values, every second of each long series is left out, as often as it
    takes; its extremes, its last value and its first one that is not finite stay.
    """
    points: dict[tuple[str, str], dict[int, float]] = {}
    total = 0
    for record in records:
        if "step" not in record:
            raise ValueError(f"a record without a step: {dict(record)!r}")
        for name, value in record.items():
            if name in ("step", "split") or isinstance(value, str | bool | Mapping | list | tuple):
                continue
            key = (name, str(record.get("split", "train")))
            if key not in points and len(points) == _MOST_SERIES:
                continue
            series = points.setdefault(key, {})
            total -= len(series)
            series[int(record["step"])] = math.nan if value is None else float(value)
            total += len(series)
        while total > _MOST_POINTS:
            points = {key: _thinned(values) for key, values in points.items()}
            total = sum(map(len, points.values()))
    return {
        key: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for key, values in points.items()
    }


def _thinned(values: dict[int, float]) -> dict[int, float]:
    """Every second value of a long series, and those that a figure names."""
    if len(values) <= _MOST_POINTS // _MOST_SERIES:
        return values
    steps = sorted(values)
    finite = [step for step in steps if math.isfinite(values[step])]
    lost = next((step for step in steps if not math.isfinite(values[step])), None)
    kept = {*steps[::2], steps[-1], *([] if lost is None else [lost])}
    if finite:
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        kept.add(finite[-1])
    return {step: values[step] for step in sorted(kept)}


def drawable(values: Any) -> np.ndarray:
    """``values`` with NaN in place of numbers that axes cannot show."""
    values = np.asarray(values, np.float64)
    return np.where(np.abs(values) <= _LARGEST, values, np.nan)


def panels(
    series: Series, declarations: Mapping[str, Declared] | None, most: int = _MOST_PANELS
) -> dict[str, Declared]:
    """The metrics to draw, at most ``most``: loss, fractions, others, learning rate."""
    names = dict.fromkeys(name for name, _ in series)
    if declarations is None:
        evaluated = dict.fromkeys(name for name, split in series if split != "train")
        found: dict[str, Declared] = {
            name: _UNDECLARED for name in evaluated if not _NOT_METRICS.search(name)
        }
    else:
        found = {
            name: declarations[name]
            for name in names
            if name in declarations and declarations[name].higher_is_better is not None
        }
    chosen: dict[str, Declared] = {"loss": _LOSS} if "loss" in names else {}
    chosen |= {
        name: declared
        for name, declared in sorted(found.items(), key=lambda pair: pair[1].unit != "fraction")
        if name not in chosen
    }
    chosen = dict(list(chosen.items())[: most - 1])
    if "learning_rate" in names:
        chosen["learning_rate"] = _UNDECLARED
    return chosen


def _draw_panel(
    axes: Axes,
    name: str,
    declared: Declared,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    fraction, higher = declared.unit == "fraction", declared.higher_is_better
    scale = 100.0 if fraction else 1.0
    rate = name == "learning_rate"
    lost = []
    low, high, last_step = math.inf, -math.inf, 1
    for split, (steps, values) in lines.items():
        values = drawable(values) * scale
        finite = np.isfinite(values)
        last_step = max(last_step, int(steps[-1]))
        if not finite.all():
            lost.append(int(steps[~finite][0]))
        if not finite.any():
            continue
        low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        color = _COLORS.get(split, "#777777")
        label = f"{canvas.label(split, 20)}: {_number(values[finite][-1], fraction)}"
        if split not in ("train", "test") and len(values) > 1 and higher is not None:
            best = np.nanmax(values) if higher else np.nanmin(values)
            label += f" (best {_number(best, fraction)})"
        marker = "*" if split == "test" else "o" if len(steps) <= 30 else ""
        style: dict[str, Any] = {"marker": marker, "markersize": 10 if split == "test" else 3.5}
        if len(values) > _NOISY and not rate:
            axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            values = _smooth(values)
        axes.plot(steps, values, color=color, linewidth=1.6, label=None if rate else label, **style)
    unit = "%" if fraction else canvas.one_line(declared.unit, 12)
    title = canvas.one_line(name.replace("_", " "), 40) + (f" ({unit})" if unit else "")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("step", fontsize=9)
    axes.set_xlim(0, last_step * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if fraction and 0 <= low <= high <= 100:
        axes.set_ylim(max(0.0, low - 5) if low < high else 0.0, min(102.0, max(high, 50) + 5))
    elif not rate and low > 0 and high > 100 * low:
        axes.set_yscale("log")
    elif rate:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        if high > 0:
            axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, framealpha=0.8)
    if lost:
        message = f"not finite at step {min(lost):,}"
        axes.text(
            0.5, 0.03, message, color="#b22222", fontsize=9, ha="center", transform=axes.transAxes
        )


def _smooth(values: np.ndarray) -> np.ndarray:
    """A centred moving average over a fiftieth of the points, and over fewer at the ends."""
    width = max(3, len(values) // 50)
    window = np.ones(width)
    finite = np.isfinite(values)
    sums = np.convolve(np.where(finite, values, 0.0), window, mode="same")
    counts = np.convolve(finite.astype(float), window, mode="same")
    return np.where(finite, sums / np.maximum(counts, 1), np.nan)


def _number(value: float, fraction: bool) -> str:
    return f"{value:.2f}%" if fraction else f"{value:.4g}"
