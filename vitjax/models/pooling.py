"""Max pooling whose windows do not overlap, cheap to differentiate twice."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch new_height new_width channels"]:
    """The largest of every ``size`` x ``size`` pixels; what is over at the end is left out.

    The gradient goes to the first of several equal pixels, as in PyTorch and in TensorFlow. It is
    written with slices alone: XLA's own, from a window reduction, has no fast second derivative.
    """
    return functools.reduce(jnp.maximum, _pixels(x, size))


def _pixels(x: Any, size: int) -> list[Any]:
    """The ``size * size`` pixels of all windows, each (batch, new_height, new_width, channels)."""
    batch, height, width, channels = x.shape
    down, right = height // size, width // size
    x = x[:, : down * size, : right * size].reshape(batch, down, size, right, size, channels)
    return [x[:, :, i, :, j] for i in range(size) for j in range(size)]


def _chosen(x: Any, pooled: Any, size: int) -> list[Any]:
    """For each pixel of the windows, whether it is the one that was chosen."""
    found, masks = None, []
    for pixel in _pixels(x, size):
        equal = pixel == pooled
        masks.append(equal if found is None else equal & ~found)
        found = equal if found is None else equal | found
    return masks


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _spread(x: Any, pooled: Any, values: Any, size: int) -> Any:
    """``values`` at the chosen pixels of ``x``, zeros elsewhere; linear in ``values``."""
    parts = [jnp.where(mask, values, 0) for mask in _chosen(x, pooled, size)]
    rows = [jnp.stack(parts[i : i + size], axis=3) for i in range(0, len(parts), size)]
    whole = jnp.stack(rows, axis=2)
    batch, down, _, right, _, channels = whole.shape
    whole = whole.reshape(batch, down * size, right * size, channels)
    rest = x.shape[1] - down * size, x.shape[2] - right * size
    return jnp.pad(whole, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _collect(x: Any, pooled: Any, values: Any, size: int) -> Any:
    """The transpose of `_spread`: ``values`` of the shape of ``x``, taken at the chosen pixels."""
    masks = _chosen(x, pooled, size)
    pixels = _pixels(values, size)
    return sum(jnp.where(mask, pixel, 0) for mask, pixel in zip(masks, pixels, strict=True))


def _pool_forward(x: Any, size: int) -> tuple[Any, Any]:
    pooled = functools.reduce(jnp.maximum, _pixels(x, size))
    return pooled, (x, pooled)


def _pool_backward(size: int, kept: Any, cotangent: Any) -> tuple[Any]:
    return (_spread(*kept, cotangent, size),)


# Which pixel is chosen does not change with x but at a tie, so only the values have a derivative.
def _keep(function: Any) -> Any:
    return lambda x, pooled, values, size: (function(x, pooled, values, size), (x, pooled))


def _along(function: Any) -> Any:
    return lambda size, kept, cotangent: (None, None, function(*kept, cotangent, size))


max_pool.defvjp(_pool_forward, _pool_backward)
_spread.defvjp(_keep(_spread), _along(_collect))
_collect.defvjp(_keep(_collect), _along(_spread))
