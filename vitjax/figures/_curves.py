"""The course of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitjax.figures import _canvas as canvas

_COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#2e8b57"}
# The part of a metric's name by which it is known to be a share of one.
_SHARES = re.compile(r"accuracy|iou|dice|f1|precision|recall")
# Reported beside metrics, but about the machine or the clock.
_NOT_METRICS = re.compile(r"_per_second$|seconds$|^epoch$|examples$|^learning_rate|flops|^mfu$")
_MOST_PANELS = 6
# Above this many points a line of training values hides its own course.
_NOISY = 150


def curves(records: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draws loss, accuracies and learning rate over the steps of a run.

    Args:
        records: the lines of a run's ``metrics.jsonl``: ``step``, ``split`` and numbers. Where a
            step stands twice, as after a crash and a resume, the later line counts. A loss that is
            None or not finite leaves a gap, and the panel says where it began.
        path: the PNG to write.

    Returns:
        ``path``.
    """
    series = _series(records)
    panels = _panels(series)
    if not panels:
        return canvas.message("Nothing has been reported yet", path)
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = canvas.new_figure(4.8 * columns, 3.5 * rows, layout="constrained")
    for index, (title, names) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, title, {key: series[key] for key in series if key[0] in names})
    return canvas.save(figure, path)


def _series(
    records: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """(metric, split) -> steps and values, sorted by step."""
    points: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        if "step" not in record:
            raise ValueError(f"a record without a step: {dict(record)!r}")
        for name, value in record.items():
            if name in ("step", "split") or isinstance(value, str | bool | Mapping | list | tuple):
                continue
            key = (name, str(record.get("split", "train")))
            points.setdefault(key, {})[int(record["step"])] = (
                math.nan if value is None else float(value)
            )
    return {
        key: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for key, values in points.items()
    }


def _panels(series: Mapping[tuple[str, str], Any]) -> list[tuple[str, set[str]]]:
    """Title and metrics of each panel: loss, shares, what else was evaluated, learning rate."""
    # What episodes give before adaptation is chance, and no course.
    names = dict.fromkeys(name for name, _ in series if not name.endswith("_before"))
    evaluated = {name for name, split in series if split != "train"}
    losses = {name for name in names if name == "loss"}
    shares = [name for name in names if _SHARES.search(name)]
    others = [
        name
        for name in names
        if name in evaluated
        and name not in losses
        and name not in shares
        and not _NOT_METRICS.search(name)
    ]
    panels = [("loss", losses)] if losses else []
    # One panel for each kind of share: top-1 and top-5 together are five lines too many.
    panels += [(name, {name}) for name in shares + others]
    panels = panels[: _MOST_PANELS - 1]
    if "learning_rate" in names:
        panels.append(("learning_rate", {"learning_rate"}))
    return panels


def _draw_panel(
    axes: Axes, title: str, series: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]
) -> None:
    share = bool(_SHARES.search(title))
    scale = 100.0 if share else 1.0
    rate = title == "learning_rate"
    lost = []
    low, high, last_step = math.inf, -math.inf, 1
    for (_, split), (steps, values) in series.items():
        finite = np.isfinite(values)
        last_step = max(last_step, int(steps[-1]))
        if not finite.all():
            lost.append(int(steps[~finite][0]))
        if not finite.any():
            continue
        values = np.where(finite, values, np.nan) * scale
        low, high = min(low, np.nanmin(values)), max(high, np.nanmax(values))
        color = _COLORS.get(split, "#777777")
        label = f"{split}: {_number(values[finite][-1], share)}"
        if split not in ("train", "test") and len(values) > 1:
            best = np.nanmin(values) if title == "loss" else np.nanmax(values)
            if title == "loss" or share:
                label += f" (best {_number(best, share)})"
        marker = "*" if split == "test" else "o" if len(steps) <= 30 else ""
        style: dict[str, Any] = {"marker": marker, "markersize": 10 if split == "test" else 3.5}
        if len(values) > _NOISY and not rate:
            axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            values = _smooth(values)
        axes.plot(steps, values, color=color, linewidth=1.6, label=None if rate else label, **style)
    axes.set_title(title.replace("_", " ") + (" (%)" if share else ""), fontsize=11)
    axes.set_xlabel("step", fontsize=9)
    axes.set_xlim(0, last_step * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if share:
        axes.set_ylim(max(0.0, low - 5) if low < high else 0.0, min(102.0, max(high, 50) + 5))
    elif not rate and low > 0 and high > 100 * low:
        axes.set_yscale("log")
    elif rate:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, framealpha=0.8)
    if lost:
        message = f"not finite at step {min(lost):,}"
        axes.text(
            0.5, 0.03, message, color="#b22222", fontsize=9, ha="center", transform=axes.transAxes
        )


def _smooth(values: np.ndarray) -> np.ndarray:
    """A centred mean over a fiftieth of the points, over fewer at the ends."""
    width = max(3, len(values) // 50)
    window = np.ones(width)
    finite = np.isfinite(values)
    sums = np.convolve(np.where(finite, values, 0.0), window, mode="same")
    counts = np.convolve(finite.astype(float), window, mode="same")
    return np.where(finite, sums / np.maximum(counts, 1), np.nan)


def _number(value: float, share: bool) -> str:
    return f"{value:.2f}%" if share else f"{value:.4g}"
