"""Initialisers that Flax lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def uniform(limit: float, scale: float = 1.0) -> Callable[..., Array]:
    """An initialiser: uniform in [-limit, limit), multiplied by ``scale``."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit) * scale

    return init
