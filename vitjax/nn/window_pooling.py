"""Pooling over windows that may overlap, with PyTorch's padding and rounding."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.nn.conv import Padding, pads


def max_pool(
    x: Float[Array, "batch height width channels"],
    size: int,
    stride: int,
    padding: Padding = 0,
    *,
    ceil: bool = False,
) -> Float[Array, "batch new_height new_width channels"]:
    """The largest of each window; what is padded never is.

    Args:
        x: the images.
        size: side of a window in pixels.
        stride: step in pixels, in both directions.
        padding: pixels on each side, as of `vitjax.nn.conv.Conv`.
        ceil: keep a last window that reaches over the end, as PyTorch does with ``ceil_mode``.
    """
    x = _padded(x, size, stride, padding, ceil, -jnp.inf)
    # With keywords alone, as the conversion to ONNX supports no other call.
    return nn.max_pool(x, window_shape=(size, size), strides=(stride, stride), padding="VALID")


def average_pool(
    x: Float[Array, "batch height width channels"],
    size: int,
    stride: int,
    padding: Padding = 0,
    *,
    ceil: bool = False,
    count_padding: bool = False,
) -> Float[Array, "batch new_height new_width channels"]:
    """The mean of each window.

    Args:
        x: the images.
        size: side of a window in pixels.
        stride: step in pixels, in both directions.
        padding: pixels on each side, as of `vitjax.nn.conv.Conv`.
        ceil: keep a last window that reaches over the end, as PyTorch does with ``ceil_mode``.
        count_padding: whether zeros that ``padding`` adds count in the mean. Those that ``ceil``
            adds never do.
    """
    counted = np.ones((1, *x.shape[1:3], 1))
    if count_padding:
        sides = pads(padding, (size, size), (stride, stride), x.shape[1:3])
        counted = np.pad(counted, [(0, 0), *sides, (0, 0)], constant_values=1)
        padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
        sums = _sums(_padded(padded, size, stride, 0, ceil, 0), size, stride)
        counts = _counts(np.asarray(counted), size, stride, 0, ceil)
    else:
        sums = _sums(_padded(x, size, stride, padding, ceil, 0), size, stride)
        counts = _counts(counted, size, stride, padding, ceil)
    return sums / jnp.asarray(counts, x.dtype)


def adaptive_average_pool(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch size size channels"]:
    """The means of ``size`` x ``size`` windows that cover images of any size.

    Window i of a side of n pixels has those from floor(i n / size) up to ceil((i + 1) n / size), as
    in PyTorch's ``AdaptiveAvgPool2d``.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (_windows(n, size) for n in x.shape[1:3])
    x = jnp.einsum("rh,bhwc->brwc", jnp.asarray(rows, x.dtype), x)
    return jnp.einsum("sw,brwc->brsc", jnp.asarray(columns, x.dtype), x)


def _windows(pixels: int, size: int) -> np.ndarray:
    """The weight (size, pixels) of each pixel in each window."""
    weights = np.zeros((size, pixels))
    for i in range(size):
        start, stop = i * pixels // size, -(-(i + 1) * pixels // size)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


def _padded(x: Any, size: int, stride: int, padding: Padding, ceil: bool, value: float) -> Any:
    """``x`` with borders of ``value``, so that every window is complete.

    A separate step, as the conversion to ONNX supports pooling without padding only.
    """
    sides = pads(padding, (size, size), (stride, stride), x.shape[1:3])
    if ceil:
        lengths = zip(x.shape[1:3], sides, strict=True)
        sides = [_rounded_up(n, size, stride, *pair) for n, pair in lengths]
    if not any(map(any, sides)):
        return x
    pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
    return pad(x, [(0, 0), *sides, (0, 0)], constant_values=value)


def _rounded_up(n: int, size: int, stride: int, before: int, after: int) -> tuple[int, int]:
    windows = -(-(n + before + after - size) // stride) + 1
    if (windows - 1) * stride >= n + before:  # PyTorch: a window starts in the image
        windows -= 1
    return before, max(after, (windows - 1) * stride + size - n - before)


def _sums(x: Any, size: int, stride: int) -> Any:
    window = {"window_shape": (size, size), "strides": (stride, stride)}
    return nn.avg_pool(x, **window, padding="VALID") * size**2


def _counts(
    counted: np.ndarray, size: int, stride: int, padding: Padding, ceil: bool
) -> np.ndarray:
    """How many pixels of each window count."""
    counted = _padded(counted, size, stride, padding, ceil, 0)
    windows = np.lib.stride_tricks.sliding_window_view(counted, (size, size), axis=(1, 2))
    total: np.ndarray = windows[:, ::stride, ::stride].sum((-1, -2))
    return total
