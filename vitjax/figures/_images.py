"""Images: as trained on, as predicted, as mistaken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes

from vitjax.figures import _canvas as canvas
from vitjax.figures._confusion import class_numbers


def mistakes(
    images: Sequence[Any] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    predictions: Sequence[int] | np.ndarray,
    confidences: Sequence[float] | np.ndarray,
    class_names: Sequence[str],
    path: str | Path,
) -> Path:
    """Draws wrongly classified images, each under "true class → predicted class" and how sure.

    Args:
        images: arrays (height, width, channels) as `image_grid` takes them, in the order to show.
        labels: the true class number of each.
        predictions: the predicted class number of each.
        confidences: the probability given to the predicted class, of each.
        class_names: the name of each class.
        path: the PNG to write.

    Raises:
        ValueError: the arguments are not of one length, or a number is not that of a class.
    """
    labels = class_numbers(labels, len(class_names), "labels")
    predictions = class_numbers(predictions, len(class_names), "predictions")
    confidences = np.asarray(confidences, dtype=np.float64).reshape(-1)
    lengths = {len(images), labels.size, predictions.size, confidences.size}
    if len(lengths) != 1:
        raise ValueError(
            f"{len(images)} images, {labels.size} labels, {predictions.size} predictions and"
            f" {confidences.size} confidences: one of each is needed for every mistake"
        )
    if not len(images):
        return canvas.message("No mistakes: every example was classified correctly", path)
    names = [canvas.one_line(name, 16) for name in class_names]
    space = " " if max(map(len, names)) <= 7 else "\n"
    titles = [
        f"{names[label]}{space}→ {names[prediction]} {confidence:.0%}"
        for label, prediction, confidence in zip(labels, predictions, confidences, strict=True)
    ]
    return _grid(images, titles, path, heading="true class → prediction", most=36)


def image_grid(
    images: Sequence[Any] | np.ndarray, titles: Sequence[str] | None, path: str | Path
) -> Path:
    """Draws images in a grid, the first 64 of them.

    Args:
        images: arrays (height, width, channels) or (height, width), of uint8 or of floats in
            [0, 1]. Of two channels the first is shown, of more than three the first three.
        titles: what stands above each image, one line or several, or None.
        path: the PNG to write.

    Raises:
        ValueError: an array is no image, its floats are far outside [0, 1], or the number of titles
            is not that of images.
    """
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    if not len(images):
        return canvas.message("No images", path)
    lines = titles and [
        "\n".join(canvas.one_line(line, 22) for line in str(title).split("\n")) for title in titles
    ]
    return _grid(images, lines, path, heading=None, most=64)


def predictions(
    images: Sequence[Any] | np.ndarray,
    names: Sequence[str],
    probabilities: Any,
    class_names: Sequence[str],
    path: str | Path,
) -> Path:
    """Draws each image beside bars of its five most probable classes, the first 24 images.

    Args:
        images: arrays as `image_grid` takes them; their sizes may differ.
        names: a line above each image, such as its file name.
        probabilities: (images, classes), each in [0, 1].
        class_names: the name of each class.
        path: the PNG to write.

    Raises:
        ValueError: the arguments do not fit each other, or a probability is none.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(images), len(class_names)) or len(names) != len(images):
        raise ValueError(
            f"{len(images)} images, {len(names)} names, {len(class_names)} classes and"
            f" probabilities of shape {probabilities.shape}: they do not fit each other"
        )
    if not len(images):
        return canvas.message("No images", path)
    if not np.all((probabilities >= -1e-3) & (probabilities <= 1 + 1e-3)):
        raise ValueError("probabilities must be numbers in [0, 1]")
    shown = min(len(images), 24)
    columns = 1 if shown == 1 else 2 if shown <= 8 else 3
    rows = math.ceil(shown / columns)
    heading = _shown(shown, len(images))
    cell, side, gap, top = 4.6, 1.5, 0.15, 0.45 if heading else 0.1
    figure = canvas.new_figure(columns * cell + gap, rows * (side + 0.4) + top)
    for index in range(shown):
        row, column = divmod(index, columns)
        left, above = column * cell + gap, top + row * (side + 0.4) + 0.3
        _show(canvas.axes_at(figure, left, above, side, side), images[index], side)
        canvas.write(
            figure, left, above - 0.06, canvas.one_line(names[index], 52), fontsize=9, ha="left"
        )
        bars = canvas.axes_at(figure, left + side + gap, above, cell - side - 2 * gap, side)
        _draw_bars(bars, probabilities[index], class_names)
    if heading:
        canvas.write_heading(figure, heading)
    return canvas.save(figure, path)


def _grid(
    images: Sequence[Any] | np.ndarray,
    titles: Sequence[str] | None,
    path: str | Path,
    *,
    heading: str | None,
    most: int,
) -> Path:
    shown = min(len(images), most)
    columns = min(shown, max(4, math.ceil(math.sqrt(shown))))
    rows = math.ceil(shown / columns)
    lines = 1 + max(title.count("\n") for title in titles[:shown]) if titles else 0
    side, gap, caption = 1.55, 0.15, 0.05 + 0.15 * lines
    heading = "; ".join(part for part in (heading, _shown(shown, len(images))) if part)
    top = 0.45 if heading else 0.1
    width = max(columns * (side + gap) + gap, 3.6)
    figure = canvas.new_figure(width, rows * (side + gap + caption) + top)
    margin = (width - columns * (side + gap) + gap) / 2
    for index in range(shown):
        row, column = divmod(index, columns)
        left = margin + column * (side + gap)
        above = top + row * (side + gap + caption) + caption
        _show(canvas.axes_at(figure, left, above, side, side), images[index], side)
        if titles:
            canvas.write(
                figure, left + side / 2, above - 0.04, titles[index], fontsize=7.5, ha="center"
            )
    if heading:
        canvas.write_heading(figure, heading)
    return canvas.save(figure, path)


def _draw_bars(axes: Axes, probabilities: np.ndarray, class_names: Sequence[str]) -> None:
    """The most probable classes from the top down, names and numbers written over the bars."""
    order = np.argsort(-probabilities, kind="stable")[:5]
    axes.barh(range(len(order)), probabilities[order], height=0.84, color="#b8cdea")
    for line, index in enumerate(order):
        axes.text(0.02, line, canvas.one_line(class_names[index], 28), fontsize=8, va="center")
        percent = f"{probabilities[index]:.1%}"
        axes.text(0.99, line, percent, fontsize=8, va="center", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(4.5, -0.5)
    axes.set_axis_off()


def _show(axes: Axes, image: Any, inches: float) -> None:
    pixels = _pixels(image)
    # Few pixels are shown as they are; many are averaged, for nearest would skip some.
    small = max(pixels.shape[:2]) <= inches * canvas.DPI
    axes.imshow(
        pixels,
        cmap="gray" if pixels.ndim == 2 else None,
        vmin=0,
        vmax=255,
        interpolation="nearest" if small else "antialiased",
    )
    axes.set_anchor("N")
    axes.set_axis_off()


def _pixels(image: Any) -> UInt8[np.ndarray, "height width *rgb"]:
    """``image`` as uint8, grey (height, width) or RGB (height, width, 3)."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"shape {image.shape} is no image: (height, width[, channels]) is")
    if image.ndim == 3:
        image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    if "float" not in image.dtype.name:
        raise ValueError(f"an image of {image.dtype}; uint8 or floats in [0, 1] can be shown")
    image = np.nan_to_num(image.astype(np.float32))
    # A little over and under is what resampling and colour changes do; more is another unit.
    if image.min() < -0.5 or image.max() > 1.5:
        raise ValueError(
            f"floats from {image.min():.3g} to {image.max():.3g} are no image in [0, 1]"
        )
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _shown(shown: int, total: int) -> str:
    return f"the first {shown} of {total:,}" if shown < total else ""
