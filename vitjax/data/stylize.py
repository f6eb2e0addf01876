"""Images that combine the shape of one image with the texture of another."""

from __future__ import annotations

import numpy as np

from vitjax.data.corruptions.patches import patch_shuffle
from vitjax.data.errors import DataError


def exchange_amplitude(shape: np.ndarray, texture: np.ndarray, mix: float = 1.0) -> np.ndarray:
    """The phase of one image with the Fourier amplitude of another, channel by channel.

    Phase carries shape, and amplitude most of texture and colour. Xu et al. 2021, arXiv:2105.11120,
    Sec. 3.2, eq. 4: the amplitude is (1 - mix) |F(shape)| + mix |F(texture)|; Yang & Soatto 2020,
    arXiv:2004.05498, exchange that of low frequencies alone.

    Args:
        shape: (height, width, channels).
        texture: of the same shape.
        mix: the fraction of the amplitude that is the texture's, in [0, 1].

    Returns:
        float64 of the same shape, in the units of the images; some values may be outside of their
        range.

    Raises:
        DataError: the images differ in shape.
    """
    if shape.shape != texture.shape:
        raise DataError(
            f"the Fourier amplitudes of images of shapes {shape.shape} and {texture.shape} cannot"
            " be exchanged; resize one"
        )
    first, second = (np.fft.fft2(x, axes=(0, 1)) for x in (shape, texture))
    amplitude = (1 - mix) * np.abs(first) + mix * np.abs(second)
    return np.fft.ifft2(amplitude * np.exp(1j * np.angle(first)), axes=(0, 1)).real


def stylized(
    shape: np.ndarray,
    texture: np.ndarray,
    rng: np.random.Generator,
    *,
    grid: int = 4,
    mix: float = 1.0,
) -> np.ndarray:
    """The shape of one image with the texture of another.

    The patches of the texture image are shuffled, which destroys its shape, before
    `exchange_amplitude`.

    Args:
        shape: uint8, (height, width, channels).
        texture: of the same shape.
        rng: the source of all randomness.
        grid: patches along each side of the texture image; 1 does not shuffle.
        mix: as of `exchange_amplitude`.

    Returns:
        uint8, of the same shape.
    """
    values = exchange_amplitude(shape, patch_shuffle(texture, grid, rng), mix)
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
