"""Convolution in three forms, equal in value: XLA's own, as matrix products, and Winograd's.

XLA's convolution is the fastest where the kernel is one for the whole batch. In an inner loop it
is not: with ``vmap`` each task brings its own kernel, which makes a grouped convolution, and on a
CPU a convolution inside a loop runs on one core. Matrix products have neither trouble, and their
derivatives of any order are matrix products again. ``docs/benchmarks.md`` has the figures.
The two forms that are not XLA's have reverse-mode derivatives alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.models.winograd import convolve_3x3

CONV_IMPLS = ("auto", "lax", "matmul", "winograd")
# Below this many pixels over the batch, Winograd's sixteen small products cost more than they save;
# measured on two cores, see scripts/bench/maml.py.
WINOGRAD_PIXELS = 900
# Narrower inputs leave nothing to save.
WINOGRAD_CHANNELS = 8


def convolve(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_height kernel_width in out"],
    strides: Sequence[int] = (1, 1),
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
    impl: str = "auto",
) -> Float[Array, "batch new_height new_width out"]:
    """Cross-correlates ``x`` with ``kernel``, as all of deep learning's convolutions do.

    Args:
        x: floats.
        kernel: of the same dtype.
        strides: steps in pixels, down and to the right.
        padding: zeros (before, after) the rows and the columns.
        impl: ``"lax"`` for XLA's; ``"matmul"`` for one product with shifted copies of ``x``;
            ``"winograd"`` for 2.25 times fewer multiplications where a 3 x 3 kernel of stride 1
            keeps a large enough image's size, and matrix products elsewhere; ``"auto"`` for
            ``"lax"``, as nothing is known of the context here (`inner_loop_impl` is for those
            who know).
    """
    if impl in ("auto", "lax"):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    if impl == "winograd" and _suits_winograd(x.shape, kernel.shape, strides, padding):
        return convolve_3x3(x, kernel)
    return _as_matmul(x, kernel, strides, padding)


def inner_loop_impl(platform: str | None = None) -> str:
    """The form that is fastest in an inner loop on ``platform`` (None: where JAX runs)."""
    return "winograd" if (platform or jax.default_backend()) == "cpu" else "matmul"


def _suits_winograd(
    x: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> bool:
    return (
        tuple(kernel[:2]) == (3, 3)
        and tuple(strides) == (1, 1)
        and [tuple(pad) for pad in padding] == [(1, 1), (1, 1)]
        and math.prod(x[:3]) >= WINOGRAD_PIXELS
        and min(x[3], kernel[3]) >= WINOGRAD_CHANNELS
    )


def _as_matmul(
    x: Any, kernel: Any, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Any:
    batch, height, width, channels = x.shape
    rows, columns, _, features = kernel.shape
    new_height = (height + sum(padding[0]) - rows) // strides[0] + 1
    new_width = (width + sum(padding[1]) - columns) // strides[1] + 1
    x = _phases(x, (rows, columns), strides, padding, (new_height, new_width))

    def tap(i: int, j: int) -> Any:
        """What kernel element (i, j) meets: (batch, new_height, new_width, channels)."""
        top, left = i // strides[0], j // strides[1]
        return x[:, top : top + new_height, i % strides[0], left : left + new_width, j % strides[1]]

    taps = [tap(i, j) for i in range(rows) for j in range(columns)]
    patches = jnp.concatenate(taps, axis=-1) if len(taps) > 1 else taps[0]
    product = patches.reshape(-1, rows * columns * channels) @ kernel.reshape(-1, features)
    return product.reshape(batch, new_height, new_width, features)


def _phases(
    x: Any,
    kernel: tuple[int, int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    new: tuple[int, int],
) -> Any:
    """Padded ``x`` as (batch, rows, stride, columns, stride, channels).

    A strided slice is then a plain one of one phase, and its derivative a plain padding.
    """
    pads, shape = [(0, 0)], [x.shape[0]]
    for axis in range(2):
        steps = new[axis] + (kernel[axis] - 1) // strides[axis]
        before = padding[axis][0]
        pads.append((before, steps * strides[axis] - x.shape[1 + axis] - before))
        shape += [steps, strides[axis]]
    # Pixels that no stride reaches are cut off: a negative padding.
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(*pad, 0) for pad in [*pads, (0, 0)]])
    return x.reshape(*shape, x.shape[-1])
