"""Max pooling whose windows do not overlap, cheap to differentiate twice."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(
    x: Float[Array, "batch height width channels"],
    size: int,
    lowest: Bool[Array, "channels"] | None = None,
) -> Float[Array, "batch new_height new_width channels"]:
    """The largest of every ``size`` x ``size`` pixels; an incomplete window at the end is left out.

    The gradient goes to the first of several equal pixels, as in PyTorch and in TensorFlow. It is
    computed by slices: the second derivative of XLA's window reduction is slow.

    Args:
        x: the images.
        size: side of a window in pixels.
        lowest: channels whose smallest pixel is taken instead.
    """
    return _chosen(x, size, lowest)[0]


def _pixels(x: Any, size: int) -> list[Any]:
    """The ``size * size`` pixels of all windows, each (batch, new_height, new_width, channels)."""
    batch, height, width, channels = x.shape
    down, right = height // size, width // size
    x = x[:, : down * size, : right * size].reshape(batch, down, size, right, size, channels)
    return [x[:, :, i, :, j] for i in range(size) for j in range(size)]


def _chosen(x: Any, size: int, lowest: Any) -> tuple[Any, list[Any]]:
    """The pooled values, and for each pixel of the windows whether it is the chosen one.

    Exactly one pixel of a window is. Comparing pixels with the pooled value is not an alternative:
    XLA may compute ``x`` again for each use, with another last bit.
    """
    first, *others = _pixels(x, size)
    pooled, masks = first, [jnp.ones(first.shape, bool)]
    for pixel in others:
        better = pixel > pooled
        if lowest is not None:
            # onnxruntime has no `where` for booleans.
            better = (lowest & (pixel < pooled)) | (~lowest & better)
        better |= pixel != pixel  # a NaN is chosen over any number
        pooled = jnp.where(better, pixel, pooled)
        masks = [*(mask & ~better for mask in masks), better]
    return pooled, masks


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _spread(x: Any, lowest: Any, values: Any, size: int) -> Any:
    """``values`` at the chosen pixels of ``x``, zeros elsewhere; linear in ``values``."""
    parts = [jnp.where(mask, values, 0) for mask in _chosen(x, size, lowest)[1]]
    rows = [jnp.stack(parts[i : i + size], axis=3) for i in range(0, len(parts), size)]
    pixels = jnp.stack(rows, axis=2)
    batch, down, _, right, _, channels = pixels.shape
    pixels = pixels.reshape(batch, down * size, right * size, channels)
    rest = x.shape[1] - down * size, x.shape[2] - right * size
    return jnp.pad(pixels, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _collect(x: Any, lowest: Any, values: Any, size: int) -> Any:
    """The transpose of `_spread`: ``values`` of the shape of ``x``, taken at the chosen pixels."""
    masks = _chosen(x, size, lowest)[1]
    pixels = _pixels(values, size)
    return sum(jnp.where(mask, pixel, 0) for mask, pixel in zip(masks, pixels, strict=True))


def _pool_forward(x: Any, size: int, lowest: Any) -> tuple[Any, Any]:
    return _chosen(x, size, lowest)[0], (x, lowest)


def _pool_backward(size: int, kept: Any, cotangent: Any) -> tuple[Any, None]:
    return _spread(*kept, cotangent, size), None


# The choice of a pixel is piecewise constant in x, so only the values have a derivative.
def _keep(function: Any) -> Any:
    return lambda x, lowest, values, size: (function(x, lowest, values, size), (x, lowest))


def _along(function: Any) -> Any:
    return lambda size, kept, cotangent: (None, None, function(*kept, cotangent, size))


max_pool.defvjp(_pool_forward, _pool_backward)
_spread.defvjp(_keep(_spread), _along(_collect))
_collect.defvjp(_keep(_collect), _along(_spread))
