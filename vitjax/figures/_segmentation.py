"""Segmentations: images beside their masks, and the course of every class."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import _series
from vitjax.figures._images import _pixels, _show

_IGNORED = (128, 128, 128)


def palette(num_classes: int) -> UInt8[np.ndarray, "classes 3"]:
    """A colour for every class, the first one dark."""
    golden = 0.618034
    colors = [(0.08, 0.08, 0.12)]
    colors += [
        colorsys.hsv_to_rgb((0.08 + c * golden) % 1, 0.75 - 0.2 * (c % 2), 0.95)
        for c in range(1, num_classes)
    ]
    return (np.asarray(colors[:num_classes]) * 255).round().astype(np.uint8)


def overlay(
    image: Any, mask: Int[np.ndarray, "height width"], num_classes: int
) -> UInt8[np.ndarray, "height width 3"]:
    """``image`` tinted by the classes of ``mask``; -1, ignored, is grey."""
    pixels = _pixels(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    # Whole numbers of 16 bits: of a large image, floats would be most of the memory.
    mixed = 3 * pixels.astype(np.uint16) + 2 * colored(mask, num_classes).astype(np.uint16)
    return ((mixed + 2) // 5).astype(np.uint8)


def colored(
    mask: Int[np.ndarray, "height width"], num_classes: int
) -> UInt8[np.ndarray, "height width 3"]:
    """The classes of ``mask`` as colours; -1, ignored, is grey."""
    colors = np.concatenate([palette(num_classes), np.asarray([_IGNORED], np.uint8)])
    found: np.ndarray = colors[mask]
    return found


def segmentations(
    rows: Sequence[tuple[Any, np.ndarray, np.ndarray]],
    titles: Sequence[str],
    class_names: Sequence[str],
    path: str | Path,
) -> Path:
    """Draws image, truth, prediction and where they differ, side by side, a row for each image.

    Args:
        rows: an image (height, width, channels), its true and its predicted classes (height,
            width); a truth of -1 does not count.
        titles: what stands above each row.
        class_names: the name of each class.
        path: the PNG to write.
    """
    if not rows:
        return canvas.message("No example was evaluated", path)
    side, gap, caption, top = 2.3, 0.1, 0.3, 0.1
    figure = canvas.new_figure(4 * (side + gap) + gap, len(rows) * (side + caption) + top + 0.35)
    for number, (image, truth, predicted) in enumerate(rows):
        above = top + number * (side + caption) + caption
        wrong = np.where(truth == -1, 1, np.where(truth == predicted, 0, 2))
        errors = np.asarray([(245, 245, 245), _IGNORED, (200, 30, 30)], np.uint8)[wrong]
        count = len(class_names)
        shown = (image, colored(truth, count), colored(predicted, count), errors)
        for column, (name, picture) in enumerate(
            zip(
                (canvas.one_line(titles[number], 40), "truth", "prediction", "wrong"),
                shown,
                strict=True,
            )
        ):
            left = gap + column * (side + gap)
            _show(canvas.axes_at(figure, left, above, side, side), picture, side)
            canvas.write(figure, left, above - 0.04, name, fontsize=8, ha="left")
    _legend(figure, class_names)
    return canvas.save(figure, path)


def class_curves(
    records: Sequence[Mapping[str, Any]], class_names: Sequence[str], path: str | Path
) -> Path:
    """Draws each class's intersection over union on the validation split over a run's steps.

    Args:
        records: the lines of a run's ``metrics.jsonl``.
        class_names: the name of each class.
        path: the PNG to write.
    """
    series = _series(records)
    figure = canvas.new_figure(6.4, 4.0, layout="constrained")
    axes = figure.subplots()
    drawn = False
    for c, name in enumerate(class_names):
        steps, values = series.get((f"iou_{c}", "val"), (np.zeros(0), np.zeros(0)))
        finite = np.isfinite(values)
        if not finite.any():
            continue
        drawn = True
        label = f"{canvas.one_line(name, 20)}: {100 * values[finite][-1]:.2f}%"
        color = palette(len(class_names))[c] / 255
        axes.plot(steps[finite], 100 * values[finite], "o-", ms=3.5, color=color, label=label)
    if not drawn:
        return canvas.message("Nothing has been evaluated yet", path)
    axes.set_title("IoU of each class on val (%)", fontsize=11)
    axes.set_xlabel("step", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.8)
    return canvas.save(figure, path)


def _legend(figure: Any, class_names: Sequence[str]) -> None:
    """A coloured square for each class, the first ten, at the figure's foot."""
    height = figure.get_size_inches()[1]
    for c, (name, color) in enumerate(
        zip(class_names[:10], palette(len(class_names)), strict=False)
    ):
        canvas.write(figure, 0.15 + 0.95 * c, height - 0.08, "■", fontsize=11, color=color / 255)
        canvas.write(figure, 0.32 + 0.95 * c, height - 0.1, canvas.one_line(name, 12), fontsize=7.5)
