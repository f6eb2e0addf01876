"""Figures of measured rows: time per image over the batch size, and how cost grows.

    python scripts/bench/plots.py rows.jsonl --images docs/images
    python scripts/bench/plots.py rows.jsonl --most 1.15    # and fail on a cliff

The rows are those that ``training.py`` and ``growth.py`` append with --json. It also prints how
time per image changes from a batch to half of it: 1 is no change, and a larger number a cost of
small batches.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timing  # type: ignore[import-not-found]
from growth import AXES  # type: ignore[import-not-found]
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from vitjax.figures import _canvas as canvas

COLORS = {timing.OURS: "#4c72b0", "timm": "#dd8452", "equimo": "#2e8b57"}
Points = Mapping[int, float]


def by_batch(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Milliseconds per image of each training case with several batch sizes, by contestant."""
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["kind"] == "training":
            for name, speed in row["values"].items():
                if speed:
                    found[row["case"]][name][row["batch"]] = 1e3 / speed
    return {case: dict(lines) for case, lines in found.items() if len(lines[timing.OURS]) > 1}


def halves(points: Points) -> dict[int, float]:
    """Time per image at half of each batch size that has a half, over that at the full one."""
    return {n: points[n // 2] / points[n] for n in sorted(points) if n // 2 in points}


def draw_batches(cases: Mapping[str, Mapping[str, Points]], path: Path) -> None:
    """Time per image over the batch size."""
    figure = canvas.new_figure(3.9 * len(cases), 3.3, layout="constrained")
    for place, (case, lines) in enumerate(cases.items(), start=1):
        axes = figure.add_subplot(1, len(cases), place)
        for name, points in lines.items():
            sizes = sorted(points)
            axes.plot(
                sizes,
                [points[n] for n in sizes],
                color=COLORS.get(name, "#777777"),
                marker="o",
                markersize=4,
                label=name,
            )
        _style(axes, "batch size", sorted(set().union(*lines.values())))
        axes.set_title(canvas.one_line(case, 40), fontsize=10)
        axes.set_ylim(bottom=0)
        if place == 1:
            axes.set_ylabel("ms per image", fontsize=9)
        axes.legend(fontsize=8)
    canvas.save(figure, path)


def growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, float]]]:
    """Value, milliseconds and MiB of each axis."""
    found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        if row["kind"] == "growth":
            notes = row["notes"]
            memory = notes["memory_bytes"] / 2**20
            found[notes["axis"]][notes["value"]] = row["values"][timing.OURS], memory
    return {
        name: [(value, *found[name][value]) for value in sorted(found[name])]
        for name in AXES
        if name in found
    }


def draw_growth(found: Mapping[str, list[tuple[int, float, float]]], what: str, path: Path) -> None:
    """One panel per axis, with the slope of the line through the points.

    Args:
        found: as of `growth`.
        what: "time" or "memory".
        path: the PNG file.
    """
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    figure = canvas.new_figure(2.9 * columns, 2.6 * rows, layout="constrained")
    color = {"time": "#4c72b0", "memory": "#dd8452"}[what]
    for place, (name, points) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        values = np.array([point[0] for point in points], float)
        costs = np.array([point[1 if what == "time" else 2] for point in points])
        slope, offset = np.polyfit(np.log(values), np.log(costs), 1)
        axes.plot(values, costs, "o", color=color, markersize=4.5)
        axes.plot(
            values,
            np.exp(offset) * values**slope,
            color=color,
            linewidth=1,
            label=f"slope {slope:.2f}",
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        # A power of ten above and below, so that what hardly grows looks flat.
        low, high = costs.min(), costs.max()
        middle = math.sqrt(low * high)
        reach = max(math.sqrt(high / low) * 1.5, math.sqrt(10))
        axes.set_ylim(middle / reach, middle * reach)
        _style(axes, AXES[name].label, [int(value) for value in values])
        if (place - 1) % columns == 0:
            unit = "ms per step" if what == "time" else "MiB per device"
            axes.set_ylabel(unit, fontsize=9)
        axes.legend(fontsize=8)
    canvas.save(figure, path)


def _shrink(path: Path) -> None:
    """Keeps 32 colours: the figures lie in the repository."""
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(32)
    small.save(path, optimize=True)


def _style(axes: Axes, label: str, ticks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{n:g}" for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rows", help="a file of JSON lines")
    parser.add_argument("--images", type=Path, help="folder of the figures")
    parser.add_argument("--most", type=float, help="fail if vitjax at half a batch costs more")
    arguments = parser.parse_args()
    rows = timing.latest(arguments.rows)
    cases, grown = by_batch(rows), growth(rows)
    worst = 0.0
    for case, lines in cases.items():
        for name, points in lines.items():
            found = halves(points)
            shown = ", ".join(f"{n}: {ratio:.2f}" for n, ratio in found.items())
            print(f"{case}, {name}, time per image at half a batch over that at batch {shown}")
            if name == timing.OURS:
                worst = max([worst, *found.values()])
    if arguments.images:
        arguments.images.mkdir(parents=True, exist_ok=True)
        if cases:
            draw_batches(cases, path := arguments.images / "batches.png")
            _shrink(path)
        if grown:
            for what in ("time", "memory"):
                draw_growth(grown, what, path := arguments.images / f"growth_{what}.png")
                _shrink(path)
    if arguments.most and worst > arguments.most:
        sys.exit(f"time per image at half a batch is up to {worst:.2f} times that at the full one")


if __name__ == "__main__":
    main()
