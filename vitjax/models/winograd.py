"""3 x 3 convolution by Winograd's minimal filtering: Lavin and Gray 2016, arXiv:1509.09308.

F(2 x 2, 3 x 3) of Sec. 4.1: every 2 x 2 outputs come from 4 x 4 inputs by 16 multiplications where
there were 36. With the matrices of Eq. 10, Y = A' [(G w G') * (B' x B)] A, and the products in the
middle, summed over channels, are 16 matrix products over all tiles at once.

The two transforms and their transposes are written out, and each is the derivative of the other:
what XLA would derive by itself adds up sixteen padded arrays. So derivatives of any order cost what
the convolution does; they are of reverse mode alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.models.linear import linear

Four = list[Any]
Square = list[list[Any]]

_KERNEL = np.asarray([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
# G w G' as one (16, 9) matrix.
_KERNELS = np.einsum("ij,kl->ikjl", _KERNEL, _KERNEL).reshape(16, 9)


def convolve_3x3(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "3 3 in out"]
) -> Float[Array, "batch height width out"]:
    """Convolution of stride 1 with one pixel of zeros around ``x``."""
    height, width, channels = x.shape[1:]
    inputs, outputs = _transforms(height, width)
    kernels = jnp.asarray(_KERNELS, kernel.dtype) @ kernel.reshape(9, -1)
    kernels = kernels.reshape(16, channels, -1)
    return outputs(jnp.matmul(inputs(x), kernels))


@functools.cache
def _transforms(height: int, width: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """(x -> its 16 parts, (16, tiles, channels)), (16 parts -> y) for images of one size."""
    odd = height % 2, width % 2
    down, right = (height + odd[0]) // 2, (width + odd[1]) // 2

    def take_inputs(x: Any) -> Any:
        """B' x B of every tile."""
        x = jnp.pad(x, ((0, 0), (1, 1 + odd[0]), (1, 1 + odd[1]), (0, 0)))
        x = x.reshape(x.shape[0], down + 1, 2, right + 1, 2, x.shape[-1])

        def pixel(i: int, j: int) -> Any:
            top, left = i // 2, j // 2
            return x[:, top : top + down, i % 2, left : left + right, j % 2]

        return _stack(_both(_input, [[pixel(i, j) for j in range(4)] for i in range(4)]))

    def give_inputs(parts: Any) -> Any:
        """The transpose of `take_inputs`: tiles overlap, and each pixel sums over its tiles."""
        tiles = _both(_input_transposed, _unstack(parts, down, right))

        def phase(p: int, q: int) -> Any:
            # Rows 2 t + p of the padded image: row p of tile t and row p + 2 of the tile above.
            return sum(
                jnp.pad(
                    tiles[p + 2 * below][q + 2 * after],
                    ((0, 0), (below, 1 - below), (after, 1 - after), (0, 0)),
                )
                for below in range(2)
                for after in range(2)
            )

        x = _interleave([[phase(p, q) for q in range(2)] for p in range(2)])
        return x[:, 1 : 1 + height, 1 : 1 + width]

    def take_outputs(parts: Any) -> Any:
        """A' m A of every tile."""
        y = _interleave(_both(_output, _unstack(parts, down, right)))
        return y[:, :height, :width]

    def give_outputs(y: Any) -> Any:
        """The transpose of `take_outputs`."""
        y = jnp.pad(y, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)))
        y = y.reshape(y.shape[0], down, 2, right, 2, y.shape[-1])
        pixels = [[y[:, :, i, :, j] for j in range(2)] for i in range(2)]
        return _stack(_both(_output_transposed, pixels))

    return linear(take_inputs, give_inputs), linear(take_outputs, give_outputs)


def _input(d: Four) -> Four:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _input_transposed(v: Four) -> Four:
    return [v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]]


def _output(m: Four) -> Four:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_transposed(y: Four) -> Four:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _both(transform: Callable[[Four], Four], square: Square) -> Square:
    """``transform`` down the columns of ``square``, then along its rows."""
    columns = [transform(list(column)) for column in zip(*square, strict=True)]
    return [transform(list(row)) for row in zip(*columns, strict=True)]


def _stack(square: Square) -> Any:
    """4 x 4 arrays (batch, down, right, channels) as one (16, tiles, channels)."""
    return jnp.stack([part.reshape(-1, part.shape[-1]) for row in square for part in row])


def _unstack(parts: Any, down: int, right: int) -> Square:
    parts = parts.reshape(4, 4, -1, down, right, parts.shape[-1])
    return [[parts[i, j] for j in range(4)] for i in range(4)]


def _interleave(square: Square) -> Any:
    """2 x 2 arrays of every second pixel as one image."""
    rows = [jnp.stack(row, axis=3) for row in square]
    whole = jnp.stack(rows, axis=2)
    batch, down, _, right, _, channels = whole.shape
    return whole.reshape(batch, 2 * down, 2 * right, channels)
