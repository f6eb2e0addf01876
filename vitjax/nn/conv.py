"""Two-dimensional convolution with explicit padding and weight standardisation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.convolution import ConvImpl, convolve
from vitjax.nn.dtypes import as_dtype

Initializer = Callable[..., Any]


class Conv(nn.Module):
    """Two-dimensional convolution with explicit padding, as in PyTorch.

    XLA's ``"SAME"`` pads a convolution of stride 2 more at the end than at the start, so weights
    that were trained with symmetric padding would give other outputs.

    Attributes:
        features: output channels.
        kernel_size: height and width of the kernel, in pixels.
        strides: step in both directions, in pixels.
        padding: zeros on each side; None keeps the size at stride 1: ``(k - 1) // 2`` zeros before
            and the rest of ``k - 1`` after.
        use_bias: adds a bias.
        standardize_epsilon: weight standardisation (arXiv:1903.10520, Eq. 3 to 5): the kernel of
            each output channel is normalised to zero mean and unit variance, with this added to the
            variance; None for none.
        kernel_init: initialiser of the (height, width, in, out) kernel.
        conv_impl: how it is computed, see `vitjax.nn.convolution.convolve`.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: int | None = None
    use_bias: bool = False
    standardize_epsilon: float | None = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
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
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        if self.standardize_epsilon is not None:
            kernel = standardize(kernel, self.standardize_epsilon)
        if self.padding is None:
            padding = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in self.kernel_size]
        else:
            padding = [(self.padding, self.padding)] * 2
        x = convolve(x.astype(dtype), kernel.astype(dtype), self.strides, padding, self.conv_impl)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), param_dtype)
            if defer_bias:
                return x, bias
            x = x + bias.astype(dtype)
        return x


def standardize(
    kernel: Float[Array, "height width in out"], epsilon: float
) -> Float[Array, "height width in out"]:
    """Normalises the kernel of each output channel (arXiv:1903.10520, Eq. 3 to 5)."""
    mean = jnp.mean(kernel, axis=(0, 1, 2), keepdims=True)
    variance = jnp.var(kernel, axis=(0, 1, 2), keepdims=True)
    return (kernel - mean) * jax.lax.rsqrt(variance + epsilon)
