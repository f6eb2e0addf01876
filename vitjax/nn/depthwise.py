"""Depthwise and grouped convolution as sums of shifted images.

XLA's grouped convolution takes up to a hundred times as long on a CPU, and under ``vmap`` with
kernels of each example it is slow on every device. Each of the three functions here is linear in
both arguments and the derivative of the other two, so that derivatives of every order are the same
three functions. They have reverse-mode derivatives only.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from vitjax.nn.fusion import computed_once

_Form: TypeAlias = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]

# Sums over pixels are computed as sums of this many parts, pixel by pixel, and then of what is
# left: XLA's reductions of fused products run on one core without vector instructions.
_PARTS = 8


def sums_of_depthwise(x: Any, kernel: Any, strides: Any, padding: Any, groups: int) -> Any:
    """A convolution in groups, see `vitjax.nn.convolution.convolve`.

    One depthwise convolution for each input channel of a group.
    """
    inner, features = kernel.shape[2:]
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, groups, channels // groups)
    return sum(
        depthwise(
            jnp.repeat(x[..., i], features // groups, axis=-1), kernel[:, :, i], strides, padding
        )
        for i in range(inner)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: Any, kernel: Any, strides: tuple[int, ...], padding: Any) -> Any:
    """The cross-correlation of each channel with a kernel of its own.

    Args:
        x: (batch, height, width, channels).
        kernel: (kernel_height, kernel_width, channels).
        strides: down and to the right.
        padding: zeros (before, after) the rows and the columns.
    """
    rows, columns, _ = kernel.shape
    new = _new(x.shape, kernel.shape, strides, padding)
    x = _padded(x, padding)
    return sum(
        _seen(x, i, j, strides, new) * kernel[i, j] for i in range(rows) for j in range(columns)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _by_x(y: Any, kernel: Any, strides: Any, padding: Any, size: tuple[int, int]) -> Any:
    """The transpose of `depthwise` in ``x``, whose height and width are ``size``."""
    sides = [size[a] + sum(padding[a]) for a in range(2)]
    phases = [
        [_phase(y, kernel, strides, sides, (p, q)) for q in range(strides[1])]
        for p in range(strides[0])
    ]
    if strides == (1, 1):
        ((x,),) = phases
    else:
        x = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
        x = x.reshape(x.shape[0], x.shape[1] * strides[0], x.shape[3] * strides[1], x.shape[-1])
    top, left = padding[0][0], padding[1][0]
    return x[:, top : top + size[0], left : left + size[1]]


def _phase(y: Any, kernel: Any, strides: Any, sides: list[int], phase: tuple[int, int]) -> Any:
    """Every ``strides``-th pixel of the transpose, from ``phase`` on."""
    taps = [range(phase[a], kernel.shape[a], strides[a]) for a in range(2)]
    new = [-(-sides[a] // strides[a]) for a in range(2)]
    before = [max(len(taps[a]) - 1, 0) for a in range(2)]
    # A last window may leave pixels out, and the first pixels are in fewer windows.
    room = [(before[a], max(new[a] - y.shape[1 + a], 0)) for a in range(2)]
    y = _padded(y, room)
    total: Any = jnp.zeros((), y.dtype)
    for m, i in enumerate(taps[0]):
        for n, j in enumerate(taps[1]):
            seen = _seen(y, before[0] - m, before[1] - n, (1, 1), new)
            total = total + seen * kernel[i, j]
    return jnp.broadcast_to(total, (y.shape[0], *new, y.shape[-1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _by_kernel(x: Any, y: Any, strides: Any, padding: Any, size: tuple[int, int]) -> Any:
    """The transpose of `depthwise` in the kernel, whose height and width are ``size``."""
    x = _padded(x, padding)
    new = y.shape[1:3]
    of_batch = len(x) >= _PARTS // 2  # otherwise of rows
    if of_batch:
        parts = min(_PARTS, len(x))
        lacking = -len(x) % parts
        x, y = (jnp.pad(z, [(0, lacking), (0, 0), (0, 0), (0, 0)]) for z in (x, y))
        step = len(x) // parts
    else:
        parts = min(_PARTS, new[0])
        lacking = -new[0] % parts
        y = jnp.pad(y, [(0, 0), (0, lacking), (0, 0), (0, 0)])
        x = jnp.pad(x, [(0, 0), (0, lacking * strides[0]), (0, 0), (0, 0)])
        step = (new[0] + lacking) // parts

    def partial_sum(x: Any, y: Any, i: int, j: int) -> Any:
        total = 0
        for part in range(parts):
            if of_batch:
                own = slice(part * step, (part + 1) * step)
                total += _seen(x[own], i, j, strides, new) * y[own]
            else:
                first = part * step
                seen = _seen(x, i + first * strides[0], j, strides, (step, new[1]))
                total += seen * y[:, first : first + step]
        return total

    sums = [
        jnp.sum(computed_once(functools.partial(partial_sum, i=i, j=j))(x, y), (0, 1, 2))
        for i in range(size[0])
        for j in range(size[1])
    ]
    return jnp.stack(sums).reshape(*size, -1)


def _new(x: Any, kernel: Any, strides: Any, padding: Any) -> tuple[int, ...]:
    """Height and width of the output."""
    return tuple((x[1 + a] + sum(padding[a]) - kernel[a]) // strides[a] + 1 for a in range(2))


def _seen(x: Any, i: int, j: int, strides: Any, new: Any) -> Any:
    """The pixels that one element of the kernel is multiplied with, in the order of the output."""
    stop = [start + (new[a] - 1) * strides[a] + 1 for a, start in enumerate((i, j))]
    starts, stops = (0, i, j, 0), (x.shape[0], *stop, x.shape[3])
    return jax.lax.slice(x, starts, stops, (1, *strides, 1))


def _padded(x: Any, padding: Any) -> Any:
    """``x`` with zeros around it, computed before what reads it."""
    if not any(map(any, padding)):
        return x
    return computed_once(lambda x: jnp.pad(x, [(0, 0), *padding, (0, 0)]))(x)


def _forward(x: Any, kernel: Any, *form: Any) -> Any:
    return depthwise(x, kernel, *form), (x, kernel)


def _backward(strides: Any, padding: Any, kept: Any, y: Any) -> Any:
    x, kernel = kept
    by_x = _by_x(y, kernel, strides, padding, x.shape[1:3])
    return by_x, _by_kernel(x, y, strides, padding, kernel.shape[:2])


def _by_x_forward(y: Any, kernel: Any, *form: Any) -> Any:
    return _by_x(y, kernel, *form), (y, kernel)


def _by_x_backward(strides: Any, padding: Any, size: Any, kept: Any, x: Any) -> Any:
    y, kernel = kept
    by_kernel = _by_kernel(x, y, strides, padding, kernel.shape[:2])
    return depthwise(x, kernel, strides, padding), by_kernel


def _by_kernel_forward(x: Any, y: Any, *form: Any) -> Any:
    return _by_kernel(x, y, *form), (x, y)


def _by_kernel_backward(strides: Any, padding: Any, size: Any, kept: Any, kernel: Any) -> Any:
    x, y = kept
    by_x = _by_x(y, kernel, strides, padding, x.shape[1:3])
    return by_x, depthwise(x, kernel, strides, padding)


depthwise.defvjp(_forward, _backward)
_by_x.defvjp(_by_x_forward, _by_x_backward)
_by_kernel.defvjp(_by_kernel_forward, _by_kernel_backward)
