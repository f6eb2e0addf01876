"""Which class was taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import PercentFormatter

from vitjax.figures import _canvas as canvas

# Up to this many classes every cell of a confusion matrix says its count.
_CELLS_WITH_TEXT = 20
_CLASSES_WITH_TICK = 40
# Above this many classes a cell would be smaller than two pixels and could be lost.
_MOST_CELLS = 250


def confusion_matrix(
    labels: Any, predictions: Any, class_names: Sequence[str], path: str | Path
) -> Path:
    """Draws which class was taken for which, each row as shares of that true class.

    Up to 20 classes each cell says its count; above, the most confused pairs are listed beside.

    Args:
        labels: true class numbers, of any shape.
        predictions: predicted class numbers, of the same shape.
        class_names: the name of each class; their number is the number of classes.
        path: the PNG to write.

    Raises:
        ValueError: shapes differ or a number is not that of a class.
    """
    num_classes = len(class_names)
    labels = class_numbers(labels, num_classes, "labels")
    predictions = class_numbers(predictions, num_classes, "predictions")
    if labels.shape != predictions.shape:
        raise ValueError(f"{labels.size} labels for {predictions.size} predictions")
    if not labels.size:
        return canvas.message("No example was evaluated", path)
    # Only cells that are not empty: the whole matrix of 20,000 classes would not fit into memory.
    codes, counts = np.unique(labels * num_classes + predictions, return_counts=True)
    rows, columns = np.divmod(codes, num_classes)
    totals = np.bincount(labels, minlength=num_classes)
    shares = counts / totals[rows]

    with_list = num_classes > _CELLS_WITH_TEXT
    side = float(np.clip(2.2 + 0.42 * num_classes, 4.2, 9.0))
    figure = canvas.new_figure(side + (4.4 if with_list else 0.8), side, layout="constrained")
    part: Any = figure
    if with_list:
        parts: Any = figure.subfigures(1, 2, width_ratios=[side + 0.8, 3.6])
        part, beside = parts
        _list_confusions(beside, rows, columns, counts, totals, class_names)
    axes = part.subplots()
    # With many classes single mistakes are faint: the square root makes them visible.
    norm = PowerNorm(0.5 if with_list else 1.0, vmin=0, vmax=1)
    block = math.ceil(num_classes / _MOST_CELLS)
    cells = math.ceil(num_classes / block)
    edges = (-0.5, cells * block - 0.5)
    picture = axes.imshow(
        _picture(rows // block, columns // block, shares, cells),
        cmap="Blues",
        norm=norm,
        interpolation="nearest",
        extent=(*edges, *edges[::-1]),
    )
    axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5))
    if not with_list:
        _write_counts(axes, rows, columns, counts, shares)
    bar = part.colorbar(picture, ax=axes, shrink=0.8, format=PercentFormatter(1, decimals=0))
    merged = f", the largest of each {block}×{block} cells" if block > 1 else ""
    bar.set_label(f"share of the true class{merged}", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _class_ticks(axes, class_names)
    correct = int(np.sum(labels == predictions))
    axes.set_title(
        f"{correct:,} of {labels.size:,} correct ({correct / labels.size:.2%})", fontsize=11
    )
    return canvas.save(figure, path)


def class_numbers(numbers: Any, num_classes: int, what: str) -> np.ndarray:
    numbers = np.asarray(numbers).reshape(-1)
    if not numbers.size:
        return numbers.astype(np.int64)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{what} are {numbers.dtype}; class numbers are integers")
    if numbers.min() < 0 or numbers.max() >= num_classes:
        raise ValueError(
            f"{what} run from {numbers.min()} to {numbers.max()};"
            f" there are names for classes 0 to {num_classes - 1}"
        )
    return numbers.astype(np.int64)


def _write_counts(
    axes: Axes, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, shares: np.ndarray
) -> None:
    longest = len(f"{counts.max():,}")
    size = float(np.clip(10 - 0.8 * max(0, longest - 3), 5.5, 10))
    for row, column, count, share in zip(rows, columns, counts, shares, strict=True):
        color = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=color)


def _class_ticks(axes: Axes, class_names: Sequence[str]) -> None:
    """Every class where there is room for it, else about twenty evenly spaced ones."""
    num_classes = len(class_names)
    step = 1 if num_classes <= _CLASSES_WITH_TICK else math.ceil(num_classes / 20)
    ticks = np.arange(0, num_classes, step)
    names = [canvas.one_line(class_names[tick], 18) for tick in ticks.tolist()]
    size = 9 if num_classes <= 20 else 7
    upright = max(map(len, names)) <= (10 if num_classes <= 5 else 2)
    axes.set_xticks(ticks, names, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted class", fontsize=10)
    axes.set_ylabel("true class", fontsize=10)


def _picture(rows: np.ndarray, columns: np.ndarray, shares: np.ndarray, side: int) -> np.ndarray:
    """``shares`` in a matrix; where several fall into one cell, the largest."""
    picture = np.zeros((side, side))
    np.maximum.at(picture, (rows, columns), shares)
    return picture


def _list_confusions(
    part: Any,
    rows: np.ndarray,
    columns: np.ndarray,
    counts: np.ndarray,
    totals: np.ndarray,
    class_names: Sequence[str],
) -> None:
    wrong = np.flatnonzero(rows != columns)
    # A stable sort, so that equal counts stand in the order of the classes.
    most = wrong[np.argsort(-counts[wrong], kind="stable")][:20].tolist()
    part.text(0.02, 0.97, "most confused" if most else "no confusions", fontsize=11, va="top")
    for line, index in enumerate(most):
        top = 0.93 - line * 0.046
        truth, taken = (canvas.one_line(class_names[n[index]], 20) for n in (rows, columns))
        share = f"{counts[index]:,} of {totals[rows[index]]:,}"
        part.text(0.02, top, f"{truth} → {taken}", fontsize=8.5, va="top")
        part.text(0.04, top - 0.02, share, fontsize=7, va="top", color="#666666")
