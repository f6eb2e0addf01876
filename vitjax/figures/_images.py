"""Grids of images, predictions and mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vitjax.figures import _canvas as canvas
from vitjax.figures._confusion import class_numbers
from vitjax.figures._pixels import show


def mistakes(
    images: Sequence[Any] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    predictions: Sequence[int] | np.ndarray,
    confidences: Sequence[float] | np.ndarray,
    class_names: Sequence[str],
    path: str | Path,
    files: Sequence[str] | None = None,
) -> Path:
    """Draws misclassified images, each with "true class → predicted class" and the confidence.

    Args:
        images: arrays (height, width, channels), see `pixels`, in the order to show.
        labels: the true class index of each image.
        predictions: the predicted class index of each image.
        confidences: the probability of the predicted class, for each image.
        class_names: the name of each class.
        path: the PNG file to write.
        files: the name of each image, written above it; None for no names.

    Raises:
        ValueError: the arguments have different lengths, or an index is not that of a class.
    """
    labels = class_numbers(labels, len(class_names), "labels")
    predictions = class_numbers(predictions, len(class_names), "predictions")
    confidences = np.asarray(confidences, dtype=np.float64).reshape(-1)
    files = [""] * len(images) if files is None else files
    lengths = {len(images), labels.size, predictions.size, confidences.size, len(files)}
    if len(lengths) != 1:
        raise ValueError(
            f"{len(images)} images, {labels.size} labels, {predictions.size} predictions and"
            f" {confidences.size} confidences, with {len(files)} file names: the numbers must be"
            " equal"
        )
    if not len(images):
        return canvas.message("No mistakes: every example was classified correctly", path)
    names = [canvas.one_line(name, 16) for name in class_names]
    space = " " if max(map(len, names)) <= 7 else "\n"
    titles = [
        (f"{canvas.one_line(file, 24)}\n" if file else "")
        + f"{names[label]}{space}→ {names[prediction]} {confidence:.0%}"
        for file, label, prediction, confidence in zip(
            files, labels, predictions, confidences, strict=True
        )
    ]
    return _grid(images, titles, path, heading="true class → prediction", most=36)


def image_grid(
    images: Sequence[Any] | np.ndarray,
    titles: Sequence[str] | None,
    path: str | Path,
    *,
    heading: str | None = None,
    columns: int | None = None,
) -> Path:
    """Draws images in a grid, the first 64 of them.

    Args:
        images: arrays (height, width, channels) or (height, width), see `pixels`.
        titles: the text above each image, of one or more lines; None for no titles.
        path: the PNG file to write.
        heading: the text above all images.
        columns: images of a row; None for about as many as there are rows.

    Raises:
        ValueError: an array is not an image, or the numbers of titles and images differ.
    """
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    if not len(images):
        return canvas.message("No images", path)
    lines = titles and [
        "\n".join(canvas.one_line(line, 22) for line in str(title).split("\n")) for title in titles
    ]
    return _grid(images, lines, path, heading=heading, most=64, columns=columns)


def predictions(
    images: Sequence[Any] | np.ndarray,
    names: Sequence[str],
    probabilities: Any,
    class_names: Sequence[str],
    path: str | Path,
    *,
    total: int | None = None,
) -> Path:
    """Draws the first 24 images, each with bars of its five most probable classes.

    Args:
        images: arrays, see `pixels`; their sizes may differ.
        names: the text above each image, such as its file name.
        probabilities: (images, classes), each in [0, 1]; NaN has no bar.
        class_names: the name of each class.
        path: the PNG file to write.
        total: the number of images that ``images`` are the first of; None for their own number.

    Raises:
        ValueError: the sizes of the arguments differ.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(images), len(class_names)) or len(names) != len(images):
        raise ValueError(
            f"{len(images)} images, {len(names)} names, {len(class_names)} classes and"
            f" probabilities of shape {probabilities.shape}: their sizes must match"
        )
    if not len(images):
        return canvas.message("No images", path)
    shown = min(len(images), 24)
    columns = 1 if shown == 1 else 2 if shown <= 8 else 3
    rows = math.ceil(shown / columns)
    heading = _shown(shown, len(images) if total is None else total)
    cell, side, gap = 4.6, 1.5, 0.15
    width = columns * cell + gap
    lines = canvas.heading_lines(heading, width)
    top = canvas.heading_height(lines)
    figure = canvas.new_figure(width, rows * (side + 0.4) + top)
    for index in range(shown):
        row, column = divmod(index, columns)
        left, above = column * cell + gap, top + row * (side + 0.4) + 0.3
        show(canvas.axes_at(figure, left, above, side, side), images[index], side)
        canvas.write(
            figure, left, above - 0.06, canvas.one_line(names[index], 52), fontsize=9, ha="left"
        )
        bars = canvas.axes_at(figure, left + side + gap, above, cell - side - 2 * gap, side)
        _draw_bars(bars, probabilities[index], class_names)
    canvas.write_heading(figure, lines)
    return canvas.save(figure, path)


def _grid(
    images: Sequence[Any] | np.ndarray,
    titles: Sequence[str] | None,
    path: str | Path,
    *,
    heading: str | None,
    most: int,
    columns: int | None = None,
) -> Path:
    shown = min(len(images), most)
    columns = columns or min(shown, max(4, math.ceil(math.sqrt(shown))))
    rows = math.ceil(shown / columns)
    lines = 1 + max(title.count("\n") for title in titles[:shown]) if titles else 0
    side, gap, caption = 1.55, 0.15, 0.05 + 0.15 * lines
    heading = "; ".join(part for part in (heading, _shown(shown, len(images))) if part)
    width = max(columns * (side + gap) + gap, 3.6)
    heading_lines = canvas.heading_lines(heading, width)
    top = canvas.heading_height(heading_lines)
    figure = canvas.new_figure(width, rows * (side + gap + caption) + top)
    margin = (width - columns * (side + gap) + gap) / 2
    for index in range(shown):
        row, column = divmod(index, columns)
        left = margin + column * (side + gap)
        above = top + row * (side + gap + caption) + caption
        show(canvas.axes_at(figure, left, above, side, side), images[index], side)
        if titles:
            canvas.write(
                figure, left + side / 2, above - 0.04, titles[index], fontsize=7.5, ha="center"
            )
    canvas.write_heading(figure, heading_lines)
    return canvas.save(figure, path)


def _draw_bars(axes: Axes, probabilities: np.ndarray, class_names: Sequence[str]) -> None:
    """Bars of the most probable classes, the largest at the top, with names and percentages."""
    order = np.argsort(-probabilities, kind="stable")[:5]
    bars = np.clip(np.nan_to_num(probabilities[order]), 0, 1)
    axes.barh(range(len(order)), bars, height=0.84, color="#b8cdea")
    for line, index in enumerate(order):
        axes.text(0.02, line, canvas.one_line(class_names[index], 28), fontsize=8, va="center")
        percent = f"{probabilities[index]:.1%}"
        axes.text(0.99, line, percent, fontsize=8, va="center", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(4.5, -0.5)
    axes.set_axis_off()


def _shown(shown: int, total: int) -> str:
    return f"the first {shown} of {total:,}" if shown < total else ""
