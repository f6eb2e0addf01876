"""Initialisers that Flax lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def uniform(limit: float) -> Callable[..., Array]:
    """An initialiser: uniform between minus and plus ``limit``."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def _uniform_bias(fan_in: int) -> Callable[..., Array]:
    """PyTorch's initialiser of a linear layer's bias: uniform within 1 / sqrt(inputs)."""

    def init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * fan_in**-0.5

    return init
