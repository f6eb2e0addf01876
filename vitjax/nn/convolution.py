"""Convolution in two forms of equal value: XLA's own, and one matrix product.

XLA's convolution is the fastest if all of a batch has one kernel. In an inner loop it is slow:
under ``vmap`` each episode has its own kernel, which makes a grouped convolution, and on a CPU a
convolution inside a loop runs on one core. A matrix product avoids both, and its derivatives of any
order are matrix products. Outside of loops, on a CPU, XLA's convolution is the fastest forward, and
for some shapes the product backward (``docs/benchmarks.md``). The matrix product has reverse-mode
derivatives only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.depthwise import sums_of_depthwise
from vitjax.nn.linear import linear

ConvImpl = Literal["auto", "lax", "matmul"]
# The implementation that is fastest in an inner loop, in place of "auto".
INNER_LOOP_IMPL: ConvImpl = "matmul"
# Where the derivatives of a product are the faster ones on a CPU, by measurement: with fewer
# examples than this (all that are traced, of every device), and with kernels that have this many
# times the numbers of input and output.
FEW_EXAMPLES, LARGE_KERNEL = 4, 4
# Groups of at most this many input channels are computed as sums of depthwise convolutions.
FEW_CHANNELS = 4

_Strides: TypeAlias = tuple[int, ...]
_Padding: TypeAlias = tuple[tuple[int, int], ...]


def convolve(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_height kernel_width in out"],
    strides: Sequence[int] = (1, 1),
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
    impl: ConvImpl = "auto",
    groups: int = 1,
    dilation: int = 1,
) -> Float[Array, "batch new_height new_width out"]:
    """Cross-correlates ``x`` with ``kernel``, which deep learning calls a convolution.

    Args:
        x: floats.
        kernel: of the same dtype.
        strides: steps in pixels, down and to the right.
        padding: zeros (before, after) the rows and the columns.
        impl: ``"lax"`` for XLA's; ``"matmul"`` for one product with shifted copies of ``x``;
            ``"auto"`` for ``"lax"``, on a CPU with the derivatives of the product where these are
            faster. ``"auto"`` cannot know that it is in an inner loop: `INNER_LOOP_IMPL` is meant
            for these.
        groups: input and output channels are split into this many groups, each of which has
            kernels of its own: the kernel has the input channels of one group.
        dilation: step in pixels between the elements of the kernel, in both directions.
    """
    if dilation > 1:
        # Zeros between the elements. Such kernels are small and few.
        gaps = [(0, 0, dilation - 1)] * 2 + [(0, 0, 0)] * 2
        kernel = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), gaps)
    form = tuple(map(int, strides)), tuple((int(before), int(after)) for before, after in padding)
    if groups > 1:
        return _in_groups(x, kernel, form, groups, impl)
    if impl == "matmul":
        return _by_product(x, kernel, *form)
    if impl == "auto" and _on_cpu(x):
        return _mixed(x, kernel, *form)
    return _by_xla(x, kernel, *form)


def _on_cpu(x: Any) -> bool:
    """Whether an array is one for which the forms of a CPU are made."""
    return bool(x.dtype.itemsize >= 4 and jax.default_backend() == "cpu")


def _in_groups(x: Any, kernel: Any, form: Any, groups: int, impl: ConvImpl) -> Any:
    few = kernel.shape[2] <= FEW_CHANNELS
    if impl == "matmul":
        form_of: Any = sums_of_depthwise if few else _batched
    elif impl == "auto" and _on_cpu(x):
        form_of = sums_of_depthwise if few else _mixed_groups
    else:
        form_of = _by_xla
    return form_of(x, kernel, *form, groups)


def _batched(x: Any, kernel: Any, strides: _Strides, padding: _Padding, groups: int) -> Any:
    """A convolution in groups as one product per group."""
    seen, weights = _per_group(x, kernel, strides, padding, groups)
    y = jnp.einsum("bhwkgc,kcgd->bhwgd", seen, weights)
    return y.reshape(*y.shape[:3], -1)


def _per_group(
    x: Any, kernel: Any, strides: _Strides, padding: _Padding, groups: int
) -> tuple[Any, Any]:
    """The factors of `_batched`: (batch, height, width, elements, groups, channels) and kernels."""
    rows, columns, inner, features = kernel.shape
    seen = _elements((rows, columns), strides, padding, x.shape[1:3]).take(x)
    seen = seen.reshape(*seen.shape[:-1], rows * columns, groups, inner)
    return seen, kernel.reshape(rows * columns, inner, groups, features // groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _mixed_groups(x: Any, kernel: Any, strides: _Strides, padding: _Padding, groups: int) -> Any:
    """XLA's convolution in groups, with derivatives of `_batched` where these are faster on a CPU.

    That is the derivative by the kernel, for which XLA convolves one group at a time, and that by
    the input of strided convolutions.
    """
    return _by_xla(x, kernel, strides, padding, groups)


def _mixed_groups_forward(x: Any, kernel: Any, *form: Any) -> tuple[Any, tuple[Any, Any]]:
    return _mixed_groups(x, kernel, *form), (x, kernel)


def _mixed_groups_backward(
    strides: _Strides, padding: _Padding, groups: int, kept: tuple[Any, Any], cotangent: Any
) -> tuple[Any, Any]:
    x, kernel = kept
    form = strides, padding, groups
    if strides == (1, 1):
        (by_x,) = jax.linear_transpose(lambda x: _by_xla(x, kernel, *form), x)(cotangent)
    else:
        (by_x,) = jax.vjp(lambda x: _batched(x, kernel, *form), x)[1](cotangent)
    (by_kernel,) = jax.linear_transpose(lambda k: _batched(x, k, *form), kernel)(cotangent)
    return by_x, by_kernel


_mixed_groups.defvjp(_mixed_groups_forward, _mixed_groups_backward)


def _by_xla(
    x: Any,
    kernel: Any,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    groups: int = 1,
) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _mixed(x: Any, kernel: Any, strides: _Strides, padding: _Padding) -> Any:
    """XLA's convolution, with the derivatives of `_by_product` where these are faster on a CPU.

    XLA's derivative by the kernel convolves the transposed input with the transposed cotangent. A
    kernel of one pixel needs no transposes as a product, and with few examples the transposed
    arrays have too few channels for XLA. Its derivative by the input pads strided cotangents with
    zeros and multiplies by these, and transposes the kernel, which counts where that is large.
    """
    return _by_xla(x, kernel, strides, padding)


def _mixed_forward(x: Any, kernel: Any, *form: Any) -> tuple[Any, tuple[Any, Any]]:
    return _mixed(x, kernel, *form), (x, kernel)


def _mixed_backward(
    strides: _Strides, padding: _Padding, kept: tuple[Any, Any], cotangent: Any
) -> tuple[Any, Any]:
    x, kernel = kept
    product = _product_of(kernel.shape, strides, padding, x.shape[1:3], x.dtype)
    pointwise, strided = kernel.shape[:2] == (1, 1), strides != (1, 1)
    large = kernel.size > LARGE_KERNEL * (x.size + cotangent.size)
    # Without the barrier XLA fuses the cotangent's computation into each of the copies.
    cotangent = jax.lax.optimization_barrier(cotangent)
    spread = product.spread(cotangent)
    if pointwise or strided or large:
        by_x = product.give(_multiply(spread, product.matrix(kernel).T))
    else:
        (by_x,) = jax.linear_transpose(lambda x: _by_xla(x, kernel, strides, padding), x)(cotangent)
    if pointwise or len(x) < FEW_EXAMPLES:
        seen = product.take(x)
        by_matrix = seen.reshape(-1, seen.shape[-1]).T @ spread.reshape(-1, spread.shape[-1])
        (by_kernel,) = jax.linear_transpose(product.matrix, kernel)(by_matrix)
    else:
        (by_kernel,) = jax.linear_transpose(lambda k: _by_xla(x, k, strides, padding), kernel)(
            cotangent
        )
    return by_x, by_kernel


_mixed.defvjp(_mixed_forward, _mixed_backward)


def _by_product(x: Any, kernel: Any, strides: _Strides, padding: _Padding) -> Any:
    product = _product_of(kernel.shape, strides, padding, x.shape[1:3], x.dtype)
    return product.total(_multiply(product.take(x), product.matrix(kernel)))


def _multiply(x: Any, kernel: Any) -> Any:
    """``x @ kernel`` over the last axis, as a product of two matrices, the fastest in XLA."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class _Product(NamedTuple):
    """The linear maps around the product that equals a convolution, for images of one size.

    Attributes:
        take: from images to the copies that are multiplied, side by side.
        give: its transpose.
        matrix: from the kernel to the matrix that they are multiplied by.
        total: from the product to the output.
        spread: its transpose.
    """

    take: Callable[[Any], Any]
    give: Callable[[Any], Any]
    matrix: Callable[[Any], Any]
    total: Callable[[Any], Any]
    spread: Callable[[Any], Any]


def _product_of(
    kernel: tuple[int, ...], strides: _Strides, padding: _Padding, size: tuple[int, int], dtype: Any
) -> _Product:
    """The product with the fewer numbers to copy."""
    rows, columns, channels, features = kernel
    fewer = columns * channels + rows * features < rows * columns * channels
    # Rows are summed after rounding, which is inaccurate in 16 bits.
    if strides == (1, 1) and fewer and dtype.itemsize >= 4:
        return _columns((rows, columns), padding, size)
    return _elements((rows, columns), strides, padding, size)


@functools.cache
def _columns(kernel: tuple[int, int], padding: _Padding, size: tuple[int, int]) -> _Product:
    """One product for all rows of the kernel, whose outputs are summed.

    Only the columns are concatenated, (pixels, columns * channels). A 3 x 3 kernel needs three
    copies of the input and three of the output instead of nine: memory traffic takes most time.
    """
    rows, columns = kernel
    height, width = (size[i] + sum(padding[i]) - kernel[i] + 1 for i in range(2))
    cut = [(-before, -after) for before, after in padding]

    def take(x: Any) -> Any:
        x = _pad(x, padding)
        return _side_by_side([x[:, :, j : j + width] for j in range(columns)])

    def give(seen: Any) -> Any:
        parts = [_pad(part, ((0, 0), (j, columns - 1 - j))) for j, part in _apart(seen, columns)]
        return _pad(sum(parts), cut)

    def total(parts: Any) -> Any:
        return sum(part[:, i : i + height] for i, part in _apart(parts, rows))

    def spread(y: Any) -> Any:
        return _side_by_side([_pad(y, ((i, rows - 1 - i), (0, 0))) for i in range(rows)])

    def matrix(kernel: Any) -> Any:
        return kernel.transpose(1, 2, 0, 3).reshape(columns * kernel.shape[2], -1)

    return _Product(
        linear(take, give), linear(give, take), matrix, linear(total, spread), linear(spread, total)
    )


@functools.cache
def _elements(
    kernel: tuple[int, int], strides: _Strides, padding: _Padding, size: tuple[int, int]
) -> _Product:
    """One product of shape (pixels, elements of the kernel * channels) with the kernel.

    Padded images are split into (batch, rows, stride, columns, stride, channels), one phase of each
    stride at a time, so that no slice, and no derivative of one, has a step.
    """
    new = tuple((size[i] + sum(padding[i]) - kernel[i]) // strides[i] + 1 for i in range(2))
    steps = tuple(new[i] + (kernel[i] - 1) // strides[i] for i in range(2))
    # Negative padding cuts off the pixels that no stride reaches.
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

        return _side_by_side([seen(i, j) for i, j in elements])

    def give(seen: Any) -> Any:
        """The transpose of `take`: the sum over all outputs that depend on a pixel."""
        parts = _apart(seen, len(elements))

        def phase(p: int, q: int) -> Any:
            total = jnp.zeros((), seen.dtype)
            for (i, j), (_, part) in zip(elements, parts, strict=True):
                if (i % strides[0], j % strides[1]) == (p, q):
                    top, left = i // strides[0], j // strides[1]
                    room = (top, steps[0] - new[0] - top), (left, steps[1] - new[1] - left)
                    total = total + _pad(part, room)
            shape = (seen.shape[0], *steps, seen.shape[-1] // len(elements))
            return jnp.broadcast_to(total, shape)  # zeros where a stride is wider than the kernel

        phases = [[phase(p, q) for q in range(strides[1])] for p in range(strides[0])]
        pixels = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
        pixels = pixels.reshape(
            pixels.shape[0], steps[0] * strides[0], steps[1] * strides[1], pixels.shape[-1]
        )
        return _pad(pixels, [(-before, -after) for before, after in pads])

    def matrix(kernel: Any) -> Any:
        return kernel.reshape(-1, kernel.shape[-1])

    def unchanged(y: Any) -> Any:
        return y

    return _Product(linear(take, give), linear(give, take), matrix, unchanged, unchanged)


def _side_by_side(parts: Sequence[Any]) -> Any:
    """Concatenates arrays along their channels.

    Written as a sum of padded arrays, which XLA computes in one pass on all cores of a CPU; its
    concatenation copies all parts and runs on one core.
    """
    channels, last = parts[0].shape[-1], len(parts) - 1

    def alone(place: int, part: Any) -> Any:
        room = (place * channels, (last - place) * channels, 0)
        return jax.lax.pad(part, jnp.zeros((), part.dtype), [(0, 0, 0)] * 3 + [room])

    return functools.reduce(jnp.add, [alone(place, part) for place, part in enumerate(parts)])


def _apart(joined: Any, number: int) -> list[tuple[int, Any]]:
    """The places and arrays that `_side_by_side` concatenated."""
    parts = joined.reshape(*joined.shape[:-1], number, joined.shape[-1] // number)
    return [(place, parts[..., place, :]) for place in range(number)]


def _pad(x: Any, pads: Sequence[tuple[int, int]]) -> Any:
    """``x`` with zeros around rows and columns; negative numbers cut pixels off."""
    config = [(0, 0, 0), *[(*pad, 0) for pad in pads], (0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)
