"""Images as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.data.share import WHERE


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std, uint8 images scaled to [0, 1] before.

    Attributes:
        mean: float32, one number per channel or one for all.
        std: the same.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(
        cls,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
        channels: int,
    ) -> Normalization:
        """The normalization by a config's ``mean`` (None: 0) and ``std`` (None: 1).

        Raises:
            ConfigError: the count of numbers is not that of the channels.
        """
        return cls(
            _per_channel(mean, 0.0, "mean", channels), _per_channel(std, 1.0, "std", channels)
        )

    def __call__(self, images: Any) -> Any:
        """For use inside ``jit``, so that batches travel to the device as bytes.

        Args:
            images: uint8 or floats, (..., channels).

        Returns:
            float32 of the same shape.
        """
        import jax.numpy as jnp  # not at the top: sources and transforms do not need JAX

        scaled = jnp.asarray(images, jnp.float32)
        if images.dtype == np.uint8:
            scaled = scaled / 255
        return (scaled - self.mean) / self.std


def _per_channel(value: Any, default: float, key: str, channels: int) -> np.ndarray:
    array = np.asarray(default if value is None else value, np.float32)
    if array.shape not in ((), (1,), (channels,)):
        raise ConfigError(
            f"{WHERE}.{key} is {value!r}; it must be one number, or one for each of the"
            f" {channels} channels of the images"
        )
    return array
