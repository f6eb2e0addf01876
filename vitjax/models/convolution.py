"""Convolution in three forms, equal in value: XLA's own, as matrix products, and Winograd's.

XLA's convolution is the fastest where the kernel is one for the whole batch. In an inner loop it
is not: with ``vmap`` each task brings its own kernel, which makes a grouped convolution, and on a
CPU a convolution inside a loop runs on one core. Matrix products have neither trouble, and their
derivatives of any order are matrix products again. ``docs/benchmarks.md`` has the figures.
The two forms that are not XLA's have reverse-mode derivatives alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.models.linear import linear
from vitjax.models.winograd import convolve_3x3

CONV_IMPLS = ("auto", "lax", "matmul", "winograd")
# Below this many pixels over the batch, Winograd's sixteen small products cost more than they save.
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
            keeps a large enough image's size, in float32 at least, and matrix products
            elsewhere; ``"auto"`` for ``"lax"``, as nothing is known of the context here
            (`inner_loop_impl` is for those who know).
    """
    if impl in ("auto", "lax"):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    if impl == "winograd" and _suits_winograd(x.dtype, x.shape, kernel.shape, strides, padding):
        return convolve_3x3(x, kernel)
    return _as_matmul(x, kernel, strides, padding)


def inner_loop_impl(platform: str | None = None) -> str:
    """The form that is fastest in an inner loop on ``platform`` (None: where JAX runs)."""
    return "winograd" if (platform or jax.default_backend()) == "cpu" else "matmul"


def _suits_winograd(
    dtype: jnp.dtype,
    x: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> bool:
    return (
        dtype.itemsize >= 4  # its sums of four numbers lose bits that bfloat16 does not have
        and tuple(kernel[:2]) == (3, 3)
        and tuple(strides) == (1, 1)
        and [tuple(pad) for pad in padding] == [(1, 1), (1, 1)]
        and math.prod(x[:3]) >= WINOGRAD_PIXELS
        and min(x[3], kernel[3]) >= WINOGRAD_CHANNELS
    )


def _as_matmul(
    x: Any, kernel: Any, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Any:
    rows, columns, channels, features = kernel.shape
    take, new = _patches((rows, columns), tuple(strides), _pairs(padding), x.shape[1:3])
    product = take(x) @ kernel.reshape(rows * columns * channels, features)
    return product.reshape(x.shape[0], *new, features)


def _pairs(padding: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(before), int(after)) for before, after in padding)


@functools.cache
def _patches(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
    size: tuple[int, int],
) -> tuple[Callable[[Any], Any], tuple[int, int]]:
    """What each output sees, for images of one size.

    Padded images are taken apart into (batch, rows, stride, columns, stride, channels), one phase
    of each stride at a time, so that no slice has a step: neither has a derivative then.

    Returns:
        A function from images to (batch * height * width, elements of the kernel * channels), and
        (height, width) of the output.
    """
    new = tuple((size[i] + sum(padding[i]) - kernel[i]) // strides[i] + 1 for i in range(2))
    steps = tuple(new[i] + (kernel[i] - 1) // strides[i] for i in range(2))
    # Pixels that no stride reaches are cut off: a negative padding.
    pads = tuple((padding[i][0], steps[i] * strides[i] - size[i] - padding[i][0]) for i in range(2))
    elements = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]

    def take(x: Any) -> Any:
        x = _pad(x, pads)
        batch, *_, channels = x.shape
        x = x.reshape(batch, steps[0], strides[0], steps[1], strides[1], channels)

        def seen(i: int, j: int) -> Any:
            top, left = i // strides[0], j // strides[1]
            rows, columns = slice(top, top + new[0]), slice(left, left + new[1])
            return x[:, rows, i % strides[0], columns, j % strides[1]]

        parts = [seen(i, j) for i, j in elements]
        whole = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return whole.reshape(-1, len(parts) * channels)

    def give(patches: Any) -> Any:
        """The transpose of `take`: each pixel sums over the places where it was seen."""
        channels = patches.shape[-1] // len(elements)
        patches = patches.reshape(-1, *new, len(elements), channels)

        def phase(p: int, q: int) -> Any:
            total = jnp.zeros((patches.shape[0], *steps, channels), patches.dtype)
            for at, (i, j) in enumerate(elements):
                if (i % strides[0], j % strides[1]) == (p, q):
                    top, left = i // strides[0], j // strides[1]
                    room = (top, steps[0] - new[0] - top), (left, steps[1] - new[1] - left)
                    total = total + _pad(patches[:, :, :, at], room)
            return total

        phases = [[phase(p, q) for q in range(strides[1])] for p in range(strides[0])]
        whole = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
        whole = whole.reshape(
            whole.shape[0], steps[0] * strides[0], steps[1] * strides[1], channels
        )
        return _pad(whole, [(-before, -after) for before, after in pads])

    return linear(take, give), new  # type: ignore[return-value]


def _pad(x: Any, pads: Sequence[tuple[int, int]]) -> Any:
    """``x`` with zeros around rows and columns; a negative number cuts off."""
    config = [(0, 0, 0), *[(*pad, 0) for pad in pads], (0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)
