"""Blur: defocus, frosted glass, motion and zoom."""

from __future__ import annotations

import math

import cv2
import numpy as np

from vitjax.data.corruptions.base import Published, as_bytes, as_floats, register

# Hendrycks & Dietterich 2019. Radius of the disk, deviation of the Gaussian that smooths its edge.
_DEFOCUS = Published(
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
)
# Deviation of a Gaussian, the furthest that a pixel moves, repetitions.
_GLASS = Published(
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
)
# Radius and deviation of the streak.
_MOTION = Published(
    ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
)
# The largest factor, and the step between factors from 1.
_ZOOM = Published(
    ((1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)),
    ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03)),
)


@register("defocus_blur", kind="blur")
def defocus_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Averages over a disk with a smooth edge, as a lens out of focus does."""
    del rng
    (radius, edge), factor = _DEFOCUS.at(image, severity)
    return as_bytes(_filtered(as_floats(image), _disk(radius * factor, edge * factor)))


@register("glass_blur", kind="blur")
def glass_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Gives each pixel the value of a near one between two blurs, as frosted glass does."""
    (deviation, furthest, repetitions), factor = _GLASS.at(image, severity)
    furthest = max(1, round(furthest * factor))
    values = gaussian(as_floats(image), deviation * factor)
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    for _ in range(repetitions):
        dy, dx = rng.integers(-furthest, furthest, (2, height, width))
        values = values[np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)]
    return as_bytes(gaussian(values, deviation * factor))


@register("motion_blur", kind="blur")
def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Averages along a streak of random direction within 45 degrees, as a moving camera does."""
    (radius, deviation), factor = _MOTION.at(image, severity)
    angle = rng.uniform(-45, 45)
    return as_bytes(streaked(as_floats(image), radius * factor, deviation * factor, angle))


@register("zoom_blur", kind="blur")
def zoom_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Averages enlargements about the middle, as a camera that moves to its object does."""
    del rng
    (largest, step), _ = _ZOOM.at(image, severity)
    values = as_floats(image)
    factors = np.arange(round((largest - 1) / step) + 1) * step + 1
    total = values + sum(_enlarged(values, float(factor)) for factor in factors)
    return as_bytes(total / (len(factors) + 1))


def gaussian(
    values: np.ndarray, deviation: float, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Floats after a Gaussian filter; beyond the edges they are repeated, or as ``border`` says."""
    if deviation <= 0:
        return values
    blurred = cv2.GaussianBlur(values, (0, 0), deviation, borderType=border)
    return blurred.reshape(values.shape)


def streaked(values: np.ndarray, radius: float, deviation: float, angle: float) -> np.ndarray:
    """Floats after a filter along a line, with half of a Gaussian from the pixel onwards.

    Args:
        values: (height, width, channels).
        radius: a quarter of the streak, in pixels, on each side of its middle: it is 2 radius long.
        deviation: of the Gaussian, in pixels.
        angle: of the line, in degrees; 0 is horizontal, 90 is downwards.
    """
    length = max(1, math.ceil(2 * radius))
    steps = np.arange(length + 1)
    weights = np.exp(-(steps**2) / (2 * max(deviation, 1e-3) ** 2))
    x, y = (steps * f(math.radians(angle)) + length for f in (math.cos, math.sin))
    kernel = np.zeros((2 * length + 2, 2 * length + 2), np.float32)
    # Each weight is shared among the four cells around its place.
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, share_x in ((0, 1 - (x - left)), (1, x - left)):
        for below, share_y in ((0, 1 - (y - top)), (1, y - top)):
            np.add.at(kernel, (top + below, left + right), weights * share_x * share_y)
    return _filtered(values, kernel / kernel.sum(), (length, length))


def _disk(radius: float, edge: float) -> np.ndarray:
    """A filter over a disk, of sum 1."""
    margin = 1 if radius <= 8 else 2
    reach = max(1, math.ceil(radius)) + margin
    places = np.arange(-reach, reach + 1)
    disk = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float32)
    size = 2 * margin + 1
    if edge > 0:
        disk = cv2.GaussianBlur(disk, (size, size), edge, borderType=cv2.BORDER_CONSTANT)
    return disk / disk.sum()


def _filtered(
    values: np.ndarray, kernel: np.ndarray, anchor: tuple[int, int] = (-1, -1)
) -> np.ndarray:
    found = cv2.filter2D(values, -1, kernel, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return found.reshape(values.shape)


def _enlarged(values: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image, enlarged to its size."""
    height, width = values.shape[:2]
    middle = np.array([[(width - 1) / 2], [(height - 1) / 2]])
    matrix = np.concatenate([np.eye(2) / factor, middle * (1 - 1 / factor)], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(
        values, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return found.reshape(values.shape)
