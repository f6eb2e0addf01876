"""Confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import PercentFormatter
from scipy import sparse

from vitjax.figures import _canvas as canvas

# Up to this many classes each cell shows its count.
_CELLS_WITH_TEXT = 20
_CLASSES_WITH_TICK = 40
# With more classes a cell would be smaller than two pixels, and cells are merged.
_MOST_CELLS = 250


def count_confusions(labels: Any, predictions: Any, num_classes: int) -> sparse.coo_array:
    """The numbers of examples by true class (rows) and predicted class (columns).

    Args:
        labels: true class indices, of any shape.
        predictions: predicted class indices, of the same shape.
        num_classes: number of classes.

    Returns:
        A sparse matrix (classes, classes), since a dense one of 20,000 classes needs 3 GB.

    Raises:
        ValueError: the sizes differ, or an index is not that of a class.
    """
    labels = class_numbers(labels, num_classes, "labels")
    predictions = class_numbers(predictions, num_classes, "predictions")
    if labels.shape != predictions.shape:
        raise ValueError(f"{labels.size} labels for {predictions.size} predictions")
    codes, counts = np.unique(labels * num_classes + predictions, return_counts=True)
    return sparse.coo_array((counts, np.divmod(codes, num_classes)), (num_classes, num_classes))


def confusion_matrix(counts: Any, class_names: Sequence[str], path: str | Path) -> Path:
    """Draws a confusion matrix, with each row as fractions of the examples of its true class.

    Up to 20 classes each cell shows its count; with more, the most confused pairs are listed.

    Args:
        counts: the number of examples by true class (rows) and predicted class (columns), an array
            or a sparse matrix, see `count_confusions`.
        class_names: the name of each class.
        path: the PNG file to write.

    Raises:
        ValueError: the shape is not (classes, classes), or a count is negative.
    """
    num_classes = len(class_names)
    matrix = sparse.csr_array(counts)
    if matrix.shape != (num_classes, num_classes):
        raise ValueError(f"counts of shape {matrix.shape} for {num_classes} classes")
    cells = matrix.tocoo()
    rows, columns, counts = cells.row, cells.col, cells.data
    if np.any(counts < 0):
        raise ValueError(f"a count of {counts.min()}; counts must be at least 0")
    rows, columns, counts = (values[counts > 0] for values in (rows, columns, counts))
    if not counts.size:
        return canvas.message("No example was evaluated", path)
    totals = np.bincount(rows, counts, num_classes).astype(counts.dtype)
    fractions = counts / totals[rows]

    with_list = num_classes > _CELLS_WITH_TEXT
    side = float(np.clip(2.2 + 0.42 * num_classes, 4.2, 9.0))
    figure = canvas.new_figure(side + (4.4 if with_list else 0.8), side, layout="constrained")
    part: Any = figure
    if with_list:
        parts: Any = figure.subfigures(1, 2, width_ratios=[side + 0.8, 3.6])
        part, beside = parts
        _list_confusions(beside, rows, columns, counts, totals, class_names)
    axes = part.subplots()
    # The square root makes single mistakes among many classes visible.
    norm = PowerNorm(0.5 if with_list else 1.0, vmin=0, vmax=1)
    block = math.ceil(num_classes / _MOST_CELLS)
    across = math.ceil(num_classes / block)
    edges = (-0.5, across * block - 0.5)
    image = axes.imshow(
        _merged(rows // block, columns // block, fractions, across),
        cmap="Blues",
        norm=norm,
        interpolation="nearest",
        extent=(*edges, *edges[::-1]),
    )
    axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5))
    if not with_list:
        _write_counts(axes, rows, columns, counts, fractions)
    bar = part.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1, decimals=0))
    merged = f", the largest of each {block}×{block} cells" if block > 1 else ""
    bar.set_label(f"fraction of the true class{merged}", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _class_ticks(axes, class_names)
    correct, total = counts[rows == columns].sum(), counts.sum()
    axes.set_title(f"{correct:,} of {total:,} correct ({correct / total:.2%})", fontsize=11)
    return canvas.save(figure, path)


def class_numbers(numbers: Any, num_classes: int, what: str) -> np.ndarray:
    """``numbers`` as one axis of int64; raises ValueError if one is not a class index."""
    numbers = np.asarray(numbers).reshape(-1)
    if not numbers.size:
        return numbers.astype(np.int64)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{what} are {numbers.dtype}; class indices must be integers")
    if numbers.min() < 0 or numbers.max() >= num_classes:
        raise ValueError(
            f"{what} range from {numbers.min()} to {numbers.max()};"
            f" they must be in 0 to {num_classes - 1}"
        )
    return numbers.astype(np.int64)


def _write_counts(
    axes: Axes, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, fractions: np.ndarray
) -> None:
    longest = len(f"{counts.max():,}")
    size = float(np.clip(10 - 0.8 * max(0, longest - 3), 5.5, 10))
    for row, column, count, fraction in zip(rows, columns, counts, fractions, strict=True):
        color = "white" if fraction > 0.5 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=color)


def _class_ticks(axes: Axes, class_names: Sequence[str]) -> None:
    """Every class if there is room, else about twenty evenly spaced ones."""
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


def _merged(rows: np.ndarray, columns: np.ndarray, fractions: np.ndarray, side: int) -> np.ndarray:
    """``fractions`` as a matrix; of several in one cell, the largest."""
    matrix = np.zeros((side, side))
    np.maximum.at(matrix, (rows, columns), fractions)
    return matrix


def _list_confusions(
    part: Any,
    rows: np.ndarray,
    columns: np.ndarray,
    counts: np.ndarray,
    totals: np.ndarray,
    class_names: Sequence[str],
) -> None:
    wrong = np.flatnonzero(rows != columns)
    # A stable sort keeps equal counts in the order of the classes.
    most = wrong[np.argsort(-counts[wrong], kind="stable")][:20].tolist()
    part.text(0.02, 0.97, "most confused" if most else "no confusions", fontsize=11, va="top")
    for line, index in enumerate(most):
        top = 0.93 - line * 0.046
        truth, taken = (canvas.one_line(class_names[n[index]], 20) for n in (rows, columns))
        fraction = f"{counts[index]:,} of {totals[rows[index]]:,}"
        part.text(0.02, top, f"{truth} → {taken}", fontsize=8.5, va="top")
        part.text(0.04, top - 0.02, fraction, fontsize=7, va="top", color="#666666")
