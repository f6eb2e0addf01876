"""Initialisers that Flax lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array


def uniform(limit: float, scale: float = 1.0) -> Callable[..., Array]:
    """An initialiser: uniform in [-limit, limit), multiplied by ``scale``."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit) * scale

    return init


# Of kernels in PyTorch's layers by default: uniform within 1 / sqrt(inputs of an output).
pytorch_kernel: Callable[..., Array] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# Normal, by the outputs: He et al. 2015, arXiv:1502.01852, Eq. 14, as PyTorch's residual networks.
he_normal: Callable[..., Array] = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def pytorch_bias(inputs: int) -> Callable[..., Array]:
    """Of biases in PyTorch's layers by default: uniform within 1 / sqrt(inputs of an output)."""
    return uniform(1.0, scale=inputs**-0.5)
