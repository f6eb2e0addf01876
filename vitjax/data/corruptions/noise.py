"""Noise: Gaussian, shot and impulse noise."""

from __future__ import annotations

import numpy as np

from vitjax.data.corruptions.base import Published, as_bytes, as_floats, register

# Hendrycks & Dietterich 2019; 1 is white.
_GAUSSIAN = Published((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
_PHOTONS = Published((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
_IMPULSES = Published((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))


@register("gaussian_noise", kind="noise")
def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise, as a sensor has in low light."""
    deviation, _ = _GAUSSIAN.at(image, severity)
    noise = rng.standard_normal(image.shape, np.float32)
    return as_bytes(as_floats(image) + np.float32(deviation) * noise)


@register("shot_noise", kind="noise")
def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Draws each value from a Poisson distribution, as the discrete nature of light does."""
    photons, _ = _PHOTONS.at(image, severity)
    return as_bytes(rng.poisson(as_floats(image) * photons) / photons)


@register("impulse_noise", kind="noise")
def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Sets a fraction of all values to 0 or 255, as errors of bits do: salt and pepper."""
    fraction, _ = _IMPULSES.at(image, severity)
    drawn = rng.random(image.shape, np.float32)
    changed = np.where(drawn < fraction / 2, np.uint8(0), image)
    return np.where(drawn >= 1 - fraction / 2, np.uint8(255), changed)
