"""Arrays as pixels that can be drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes

from vitjax.figures import _canvas as canvas

# Resampling and changes of colour move floats of an image in [0, 1] by no more than this.
_TOLERANCE = 0.5
# The longer side, in pixels, from which on an image that gets a frame is not enlarged, and the
# number of widths of a frame's line in that side.
_FRAMED, _LINES = 180, 64

Range = tuple[float, float]


def pixels(image: Any, shown: Range | None = None) -> UInt8[np.ndarray, "height width *rgb"]:
    """``image`` as uint8, grey (height, width) or RGB (height, width, 3).

    Arrays of uint8 and of booleans keep their values. Floats are clipped to [0, 1], unless some are
    below -0.5 or above 1.5; these images, such as normalised ones, and images of other integers are
    scaled linearly from their smallest and largest finite value to [0, 1]. NaN is drawn as the
    smallest value.

    Args:
        image: (height, width, channels) or (height, width). Of two channels the first is used, of
            more than three the first three.
        shown: the values that become 0 and 255, see `shown_range`; None computes them.

    Raises:
        ValueError: the array is not an image.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"an array of shape {image.shape} is not an image; it should be"
            " (height, width[, channels])"
        )
    if image.ndim == 3:
        image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    if image.dtype == np.uint8:
        return image
    low, high = shown_range(image) if shown is None else shown
    # Halves, since the difference of two finite numbers may be infinite.
    values = image.astype(np.float64) / 2
    values = np.nan_to_num(values, nan=low / 2, posinf=high / 2, neginf=low / 2)
    # The smallest normal number: for a constant image of another range.
    width = max(high / 2 - low / 2, np.finfo(np.float64).tiny)
    return (np.clip((values - low / 2) / width, 0, 1) * 255).round().astype(np.uint8)


def shown_range(image: Any) -> Range:
    """The values of ``image`` that `pixels` draws as 0 and 255."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(np.min(image)), float(np.max(image))
    if not np.isfinite(low + high):
        finite = image[np.isfinite(image)].astype(np.float64)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    number = "float" in image.dtype.name or image.dtype == np.bool_
    if number and low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return 0.0, 1.0
    return low, high


def framed(image: Any, rows: Range, columns: Range) -> UInt8[np.ndarray, "height width *rgb"]:
    """An image with a frame, whose outer line is white and whose inner line is black.

    A small image is enlarged by a whole factor, so that the lines are as thin as in a large one.

    Args:
        image: as of `pixels`.
        rows: the upper and the lower edge of the frame, as fractions of the height.
        columns: the left and the right edge, as fractions of the width.
    """
    found = pixels(image)
    factor = math.ceil(_FRAMED / max(found.shape[:2]))
    drawn = found.repeat(factor, axis=0).repeat(factor, axis=1)
    edges = []
    for (low, high), length in zip((rows, columns), drawn.shape[:2], strict=True):
        first = min(round(low * length), length - 1)
        edges.append((first, max(round(high * length), first + 1)))
    # Of a box that is a few pixels wide, a third stays visible.
    least = min(high - low for low, high in edges)
    line = max(1, min(round(max(drawn.shape[:2]) / _LINES), least // 6))
    unframed = drawn.copy()
    outer, inner, inside = (
        tuple(slice(low + inset, max(low, high - inset)) for low, high in edges)
        for inset in (0, line, 2 * line)
    )
    drawn[outer], drawn[inner] = 255, 0
    drawn[inside] = unframed[inside]
    return drawn


def show(axes: Axes, image: Any, inches: float) -> None:
    """Draws ``image`` in axes of the given width."""
    found = pixels(image)
    # Small images keep their pixels; large ones are averaged, since "nearest" would skip pixels.
    small = max(found.shape[:2]) <= inches * canvas.DPI
    axes.imshow(
        found,
        cmap="gray" if found.ndim == 2 else None,
        vmin=0,
        vmax=255,
        interpolation="nearest" if small else "antialiased",
    )
    axes.set_anchor("N")
    axes.set_axis_off()
