"""Two-dimensional convolution with explicit padding and weight standardisation."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.convolution import ConvImpl, convolve
from vitjax.nn.dtypes import as_dtype
from vitjax.nn.initializers import pytorch_bias

Initializer = Callable[..., Any]
# A constant, PyTorch's default, or an initialiser.
BiasInit = float | Literal["pytorch"] | Initializer
# Pixels on each side of rows and columns, one number for both or (rows, columns).
Padding = int | tuple[int, int] | Literal["same"] | None


class Conv(nn.Module):
    """Two-dimensional convolution with explicit padding, as in PyTorch.

    XLA's ``"SAME"`` pads a convolution of stride 2 more at the end than at the start, so weights
    that were trained with symmetric padding would give other outputs.

    Attributes:
        features: output channels.
        kernel_size: height and width of the kernel, in pixels.
        strides: step in both directions, in pixels.
        padding: zeros on each side, one number or those of (rows, columns); None keeps the size at
            stride 1: ``(k - 1) // 2`` zeros before and the rest of ``k - 1`` after; ``"same"`` is
            TensorFlow's, which pads strided convolutions more at the end, by the size of ``x``.
        groups: of channels, each with kernels of its own; as many as input channels for a depthwise
            convolution.
        dilation: step in pixels between the elements of the kernel, in both directions.
        use_bias: adds a bias.
        standardize_epsilon: weight standardisation (arXiv:1903.10520, Eq. 3 to 5): the kernel of
            each output channel is normalised to zero mean and unit variance, with this added to the
            variance; None for none.
        kernel_init: initialiser of the (height, width, in, out) kernel.
        bias_init: of the bias: a constant, ``"pytorch"`` for its default, or an initialiser.
        conv_impl: how it is computed, see `vitjax.nn.convolution.convolve`.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = None
    groups: int = 1
    dilation: int = 1
    use_bias: bool = False
    standardize_epsilon: float | None = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: BiasInit = 0.0
    conv_impl: ConvImpl = "auto"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width in"], defer_bias: bool = False) -> Any:
        """Convolves ``x``.

        Args:
            x: floats.
            defer_bias: return the bias instead of adding it, for the next layer.

        Returns:
            (batch, new_height, new_width, features); with ``defer_bias`` a tuple of that, without
            the bias, and the bias of shape (features,).
        """
        dtype, param_dtype = as_dtype(self.dtype), as_dtype(self.param_dtype)
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        if self.standardize_epsilon is not None:
            kernel = standardize(kernel, self.standardize_epsilon)
        size = [self.dilation * (side - 1) + 1 for side in self.kernel_size]
        padding = pads(self.padding, size, self.strides, x.shape[1:3])
        x = convolve(
            x.astype(dtype),
            kernel.astype(dtype),
            self.strides,
            padding,
            self.conv_impl,
            self.groups,
            self.dilation,
        )
        if self.use_bias:
            init = _bias_initializer(self.bias_init, math.prod(shape[:-1]))
            bias = self.param("bias", init, (self.features,), param_dtype)
            if defer_bias:
                return x, bias
            x = x + bias.astype(dtype)
        return x


def _bias_initializer(bias_init: BiasInit, inputs: int) -> Initializer:
    """The initialiser of biases of a layer of which an output has ``inputs`` inputs."""
    if bias_init == "pytorch":
        return pytorch_bias(inputs)
    if callable(bias_init):
        return bias_init
    constant: Initializer = nn.initializers.constant(bias_init)
    return constant


def pads(
    padding: Padding, kernel: Sequence[int], strides: Sequence[int], size: Sequence[int]
) -> list[tuple[int, int]]:
    """The pixels (before, after) the rows and the columns that ``padding`` of `Conv` stands for.

    Args:
        padding: as of `Conv`.
        kernel: height and width of the window.
        strides: down and to the right.
        size: height and width of the images.
    """
    if padding == "same":
        lacking = [
            max((-(-n // stride) - 1) * stride + k - n, 0)
            for n, k, stride in zip(size, kernel, strides, strict=True)
        ]
        return [(n // 2, n - n // 2) for n in lacking]
    if padding is None:
        return [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel]
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return [(rows, rows), (columns, columns)]


def standardize(
    kernel: Float[Array, "height width in out"], epsilon: float
) -> Float[Array, "height width in out"]:
    """Normalises the kernel of each output channel (arXiv:1903.10520, Eq. 3 to 5)."""
    mean = jnp.mean(kernel, axis=(0, 1, 2), keepdims=True)
    variance = jnp.var(kernel, axis=(0, 1, 2), keepdims=True)
    return (kernel - mean) * jax.lax.rsqrt(variance + epsilon)
