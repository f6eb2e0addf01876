"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

from vitjax.data.corruptions.base import (
    Published,
    as_bytes,
    as_floats,
    grey,
    octaves,
    register,
)
from vitjax.data.corruptions.blur import gaussian, streaked

# Hendrycks & Dietterich 2019. Mean and deviation of the noise, size of a flake, the noise below
# which there is none, radius and deviation of the streaks, weight of the image in its whitening.
_SNOW = Published(
    (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
)
# Weights of the image and of the frost.
_FROST = Published(
    ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
)
# Strength, and the decay of the fractal.
_FOG = Published(
    ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
# What is added to the value of HSV.
_BRIGHTNESS = Published((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
_SHEETS = 5  # pieces of frost that images are covered with
_FERNS = 14  # of a sheet
_DRAWN = 512  # pixels along each side of a sheet before it is resized
_COLOUR_OF_ICE = np.array([0.86, 0.95, 1.0], np.float32)


@register("snow", kind="weather")
def snow(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Whitens the image and adds streaks of snow that falls from both sides."""
    (mean, deviation, flake, least, radius, blur, kept), factor = _SNOW.at(image, severity)
    values = as_floats(image)
    height, width = image.shape[:2]
    flake = max(1.0, flake * factor)
    cells = (math.ceil(width / flake), math.ceil(height / flake))
    noise = rng.normal(mean, deviation, cells[::-1]).astype(np.float32)
    layer = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    layer = np.clip(np.where(layer < least, 0, layer), 0, 1)[..., None]
    layer = streaked(layer, radius * factor, blur * factor, rng.uniform(45, 135))
    white = np.maximum(values, 1.5 * grey(values) + 0.5)
    return as_bytes(kept * values + (1 - kept) * white + layer + layer[::-1, ::-1])


@register("frost", kind="weather")
def frost(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Adds a part of a sheet of ice crystals.

    The original adds parts of five photos of frost; here `sheet` draws the crystals.
    """
    (kept, added), _ = _FROST.at(image, severity)
    height, width, channels = image.shape
    side = max(height, width)
    ice = sheet(int(rng.integers(_SHEETS)), side)
    top, left = rng.integers(len(ice) - height + 1), rng.integers(len(ice) - width + 1)
    part = ice[top : top + height, left : left + width]
    part = part if channels == 3 else grey(part)
    return as_bytes(kept * as_floats(image) + added * part)


@register("fog", kind="weather")
def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Adds a fractal by midpoint displacement, and keeps the brightest value of the image."""
    (strength, decay), _ = _FOG.at(image, severity)
    values = as_floats(image)
    brightest = values.max()
    mist = fractal(image.shape[:2], decay, rng)[..., None]
    return as_bytes((values + strength * mist) * brightest / (brightest + strength))


@register("brightness", kind="weather")
def brightness(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Adds to the largest channel of each pixel, and keeps its hue and saturation (HSV)."""
    del rng
    added, _ = _BRIGHTNESS.at(image, severity)
    values = as_floats(image)
    value = values.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + np.float32(added), 1)
    # Black has no hue and becomes grey.
    return as_bytes(np.where(value > 0, values * (brighter / np.maximum(value, 1e-6)), brighter))


def fractal(shape: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Random clouds, float32 from 0 to 1.

    Sums noise on grids of 2, 4, 8, ... cells, linearly interpolated. Its amplitude falls by the
    square of ``decay`` from grid to grid, as in the original, which multiplies the amplitude of
    midpoint displacement by itself.

    Args:
        shape: (height, width).
        decay: above 1; larger ones give smoother clouds.
        rng: the source of all randomness.
    """
    side = max(shape)
    total = np.zeros((side, side), np.float32)
    for level in range(octaves(shape)):
        points = 2 ** (level + 1) + 1
        noise = rng.uniform(-1, 1, (points, points)).astype(np.float32)
        smooth = cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)
        total += smooth / np.float32(decay) ** (2 * level)
    part = total[: shape[0], : shape[1]]
    low, high = part.min(), part.max()
    return (part - low) / max(high - low, 1e-6)


@functools.lru_cache(maxsize=2 * _SHEETS)
def sheet(number: int, side: int) -> np.ndarray:
    """Ice crystals on a pane: float32 (2 side, 2 side, 3), the same for the same arguments.

    Ferns with branches at 60 degrees, the angle of ice, over a thin layer of uneven ice.

    Args:
        number: which of several sheets.
        side: the longer side of the images that the sheet is cut for, in pixels.
    """
    ice = _drawn_sheet(number)
    smaller = 2 * side < len(ice)
    ice = cv2.resize(
        ice, (2 * side, 2 * side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    return np.clip(ice, 0, 1)[..., None] * _COLOUR_OF_ICE


@functools.lru_cache(maxsize=_SHEETS)
def _drawn_sheet(number: int) -> np.ndarray:
    rng = np.random.default_rng([1903, number])
    canvas = np.zeros((_DRAWN, _DRAWN), np.uint8)
    for _ in range(_FERNS):
        start = (rng.uniform(0, _DRAWN), rng.uniform(0, _DRAWN))
        length = rng.uniform(0.3, 0.8) * _DRAWN
        _draw_fern(canvas, start, rng.uniform(0, 2 * np.pi), length, 3, rng)
    crystals = as_floats(canvas)
    crystals = np.maximum(crystals, 0.8 * gaussian(crystals, _DRAWN / 150))
    thin = fractal((_DRAWN, _DRAWN), 1.35, rng)
    return (0.15 + 0.35 * thin + 0.8 * crystals * (0.6 + 0.4 * thin)).astype(np.float32)


def _draw_fern(
    canvas: np.ndarray,
    start: tuple[float, float],
    angle: float,
    length: float,
    depth: int,
    rng: np.random.Generator,
) -> None:
    """Draws a stem, and ``depth - 1`` generations of branches on both of its sides."""
    x, y = start
    dx, dy = length * math.cos(angle), length * math.sin(angle)
    ends = (round(16 * x), round(16 * y)), (round(16 * (x + dx)), round(16 * (y + dy)))
    thickness = max(1, round(length / 120))
    cv2.line(canvas, *ends, 110 + 45 * depth, thickness, cv2.LINE_AA, 4)
    if depth == 1 or length < 8:
        return
    for place in np.linspace(0.06, 0.94, 7 * depth).tolist():
        for side in (-1, 1):
            branch = length * 0.4 * (1 - place) * rng.uniform(0.6, 1.1)
            turn = side * (math.pi / 3 + rng.normal(0, 0.06))
            middle = (x + place * dx, y + place * dy)
            _draw_fern(canvas, middle, angle + turn, branch, depth - 1, rng)
