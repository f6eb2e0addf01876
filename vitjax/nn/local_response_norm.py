"""Local response normalisation, over neighbouring channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def local_response_norm(
    x: Float[Array, "batch height width channels"],
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
) -> Float[Array, "batch height width channels"]:
    """Divides each number by ``(k + alpha * s) ** beta``, s the sum of squares of its neighbours.

    Krizhevsky et al. 2012 (AlexNet), Sec. 3.3, whose constants are the defaults. PyTorch's layer
    and Caffe's take the mean of the squares: their alpha is ``size`` times as large.

    Args:
        x: the maps.
        size: channels that are neighbours, the number itself among them; an odd number.
        alpha: of the sum.
        beta: the exponent.
        k: the constant.
    """
    half = size // 2
    padding = [(0, 0)] * 3 + [(half, half)]
    sums = jax.lax.reduce_window(
        # A number of Python: only with that JAX knows that the sum has a derivative.
        jnp.square(x),
        0.0,
        jax.lax.add,
        (1, 1, 1, size),
        (1,) * 4,
        padding,
    )
    return x / (k + alpha * sums) ** beta
