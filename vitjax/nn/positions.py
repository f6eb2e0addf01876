"""Fixed position embeddings."""

import numpy as np
from jaxtyping import Float

from vitjax.core.errors import ConfigError


def sincos2d(height: int, width: int, channels: int) -> Float[np.ndarray, "height width channels"]:
    """Fixed position embedding: sines and cosines of the column, then of the row.

    The form of MoCo v3 (arXiv:2104.02057, App. A.2) with frequencies from 1 down to 1/10,000.

    Raises:
        ConfigError: ``channels`` is not a multiple of four, or is four.
    """
    if channels % 4 or channels < 8:
        raise ConfigError(f"positions='sincos2d' needs a width of 8, 12, 16, ...; it is {channels}")
    frequencies = 10_000.0 ** -np.linspace(0, 1, channels // 4)
    row, column = np.mgrid[:height, :width]
    rows, columns = row[..., None] * frequencies, column[..., None] * frequencies
    waves = [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)]
    return np.concatenate(waves, axis=-1)
