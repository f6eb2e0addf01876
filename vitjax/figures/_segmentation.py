"""Segmentation: images with their masks, and the metrics of each class over a run."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable, read_series
from vitjax.figures._pixels import pixels, show, shown_range

_IGNORED, _WRONG = (128, 128, 128), (200, 30, 30)
# What stands for ignored pixels; the first that differs from the colours of all classes.
_FOR_IGNORED = (_IGNORED, (255, 255, 255), (255, 0, 255), (255, 200, 0), (0, 0, 0))
_DIFFERS = 40  # in the channel that differs most
_AT_ONCE = 256  # rows
_LISTED, _IN_A_LINE, _LINE = 20, 8, 0.22  # of a legend; a line's height in inches


def palette(num_classes: int) -> UInt8[np.ndarray, "classes 3"]:
    """A colour for each class; the first one is dark."""
    golden = 0.618034
    colors = [(0.08, 0.08, 0.12)]
    colors += [
        colorsys.hsv_to_rgb((0.08 + c * golden) % 1, 0.75 - 0.2 * (c % 2), 0.95)
        for c in range(1, num_classes)
    ]
    return (np.asarray(colors[:num_classes]) * 255).round().astype(np.uint8)


def overlay(
    image: Any,
    mask: Int[np.ndarray, "height width"],
    num_classes: int,
    colors: UInt8[np.ndarray, "classes 3"] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """``image`` tinted as of `colored`."""
    found = np.empty((*mask.shape, 3), np.uint8)
    shown = shown_range(image)
    # In parts: for a large image, the intermediate arrays would take most of the memory.
    for first in range(0, len(mask), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        part = pixels(image[rows], shown).astype(np.uint16)
        part = part if part.ndim == 3 else part[..., None]
        found[rows] = (
            3 * part + 2 * colored(mask[rows], num_classes, colors).astype(np.uint16) + 2
        ) // 5
    return found


def colored(
    mask: Int[np.ndarray, "height width"],
    num_classes: int,
    colors: UInt8[np.ndarray, "classes 3"] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """The colours of the classes in ``mask``, by default `palette`.

    Ignored pixels, -1, are grey, or of a colour that is not a class's.
    """
    of_classes = palette(num_classes) if colors is None else colors
    ignored = np.asarray([_ignored_color(colors)], np.uint8)
    found: np.ndarray = np.concatenate([of_classes, ignored])[mask]
    return found


def _ignored_color(colors: UInt8[np.ndarray, "classes 3"] | None) -> tuple[int, int, int]:
    if colors is None:
        return _IGNORED
    taken = np.asarray(colors).astype(int)
    distances = [np.abs(taken - np.asarray(each)).max(axis=1).min() for each in _FOR_IGNORED]
    free = [each for each, far in zip(_FOR_IGNORED, distances, strict=True) if far > _DIFFERS]
    return free[0] if free else _FOR_IGNORED[int(np.argmax(distances))]


def segmentations(
    rows: Sequence[tuple[Any, np.ndarray, np.ndarray]],
    titles: Sequence[str],
    class_names: Sequence[str],
    path: str | Path,
    colors: UInt8[np.ndarray, "classes 3"] | None = None,
) -> Path:
    """Draws image, truth, prediction and errors side by side, one row per image.

    Args:
        rows: an image (height, width, channels), its true and its predicted classes (height,
            width); pixels with the true class -1 do not count, and are grey in all masks.
        titles: the text above each row.
        class_names: the name of each class.
        path: the PNG file to write.
        colors: the colour of each class; None takes `palette`.
    """
    if not rows:
        return canvas.message("No example was evaluated", path)
    side, gap, caption, top = 2.3, 0.1, 0.3, 0.1
    count = len(class_names)
    of_classes = palette(count) if colors is None else colors
    ignored = _ignored_color(colors)
    not_classes = (("does not count", ignored), ("wrong", _WRONG))
    legend = [*zip(class_names[:_LISTED], of_classes, strict=False), *not_classes]
    if count > _LISTED:
        legend.insert(_LISTED, (f"and {count - _LISTED} more", (255, 255, 255)))
    # Rows of wide images are lower.
    heights = [side * min(1, len(truth) / truth.shape[1]) for _, truth, _ in rows]
    foot = top + sum(heights) + len(rows) * caption
    below = 0.1 + _LINE * -(-len(legend) // _IN_A_LINE)
    figure = canvas.new_figure(4 * (side + gap) + gap, foot + below)
    above = top
    for (image, truth, predicted), title, height in zip(rows, titles, heights, strict=True):
        above += caption
        wrong = np.where(truth == -1, 1, np.where(truth == predicted, 0, 2))
        errors = np.asarray([(245, 245, 245), ignored, _WRONG], np.uint8)[wrong]
        images = (
            (canvas.one_line(title, 34), image),
            ("truth", colored(truth, count, colors)),
            ("prediction", colored(np.where(truth == -1, -1, predicted), count, colors)),
            ("wrong", errors),
        )
        for column, (name, shown) in enumerate(images):
            left = gap + column * (side + gap)
            show(canvas.axes_at(figure, left, above, side, height), shown, side)
            canvas.write(figure, left, above - 0.04, name, fontsize=8, ha="left")
        above += height
    for place, (name, color) in enumerate(legend):
        line, column = divmod(place, _IN_A_LINE)
        left, low = 0.1 + 1.2 * column, foot + (line + 1) * _LINE
        square = np.asarray(color) / 255
        canvas.write(figure, left, low + 0.02, "■", fontsize=11, color=square)
        canvas.write(figure, left + 0.17, low, canvas.one_line(name, 14), fontsize=7.5)
    return canvas.save(figure, path)


def class_curves(
    records: Iterable[Mapping[str, Any]], class_names: Sequence[str], path: str | Path
) -> Path:
    """Draws the intersection over union of each class on the validation split over a run.

    Args:
        records: the lines of a run's ``metrics.jsonl``; those of ``val`` have ``iou_per_class``, a
            list with null for classes that do not occur, or ``iou_0``, ``iou_1``, ...
        class_names: the name of each class.
        path: the PNG file to write.
    """
    series = read_series(_flat(record) for record in records if record.get("split") == "val")
    curves = []
    for c, name in enumerate(class_names):
        steps, values = series.get((f"iou_{c}", "val"), (np.zeros(0), np.zeros(0)))
        values = drawable(values)
        finite = np.isfinite(values)
        if finite.any():
            label = f"{canvas.label(name, 20)}: {100 * values[finite][-1]:.2f}%"
            curves.append((c, label, steps[finite], 100 * values[finite]))
    if not curves:
        return canvas.message("Nothing has been evaluated yet", path)
    # A legend of many classes is placed beside the curves.
    columns = 0 if len(curves) <= 6 else -(-len(curves) // _LISTED)
    figure = canvas.new_figure(6.4 + 2.0 * columns, 4.0, layout="constrained")
    axes = figure.subplots()
    for c, label, steps, values in curves:
        color = palette(len(class_names))[c] / 255
        axes.plot(steps, values, "o-", ms=3.5, color=color, label=label)
    axes.set_title("IoU of each class on val (%)", fontsize=11)
    axes.set_xlabel("step", fontsize=9)
    axes.grid(alpha=0.25)
    if columns:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), ncols=columns)
    else:
        axes.legend(fontsize=8, framealpha=0.8)
    return canvas.save(figure, path)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The intersection over union in ``record``, with an entry per class."""
    flat = {
        key: value for key, value in record.items() if key.startswith(("step", "split", "iou_"))
    }
    values = flat.pop("iou_per_class", None)
    if isinstance(values, list):
        flat |= {f"iou_{c}": value for c, value in enumerate(values)}
    return flat
