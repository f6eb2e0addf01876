"""What the layers of a convolutional network share, and convolution with batch normalisation."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.activations import ACTIVATIONS
from vitjax.nn.batch_norm import BatchNorm
from vitjax.nn.conv import BiasInit, Conv, Initializer, Padding
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.initializers import he_normal


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


@dataclasses.dataclass(frozen=True)
class Layers:
    """Constructors of the layers of one network.

    Attributes:
        train: normalise by the batch's statistics.
        epsilon: of batch normalisation.
        momentum: the fraction of the running moments that an update keeps.
        activation: a name of `vitjax.nn.activations.ACTIVATIONS`.
        kernel_init: initialiser of kernels.
        bias_init: of biases of convolutions, see `vitjax.nn.conv.Conv`.
        padding: what ``padding=None`` of a convolution means, see `vitjax.nn.conv.Conv`.
        conv_impl: see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    train: bool = False
    epsilon: float = 1e-5
    momentum: float = 0.9
    activation: str = "relu"
    kernel_init: Initializer = he_normal
    bias_init: BiasInit = 0.0
    padding: Padding = None
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def conv(
        self,
        features: int,
        kernel_size: int | tuple[int, int] = 1,
        strides: int = 1,
        *,
        padding: Padding = None,
        groups: int = 1,
        dilation: int = 1,
        use_bias: bool = False,
        kernel_init: Initializer | None = None,
        bias_init: BiasInit | None = None,
        name: str | None = None,
    ) -> Conv:
        """A convolution, see `vitjax.nn.conv.Conv`."""
        return Conv(
            features,
            _pair(kernel_size),
            _pair(strides),
            padding=self.padding if padding is None else padding,
            groups=groups,
            dilation=dilation,
            use_bias=use_bias,
            kernel_init=kernel_init or self.kernel_init,
            bias_init=self.bias_init if bias_init is None else bias_init,
            conv_impl=self.conv_impl,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def norm(
        self, *, scale_init: Initializer = nn.initializers.ones, name: str | None = None
    ) -> BatchNorm:
        """Batch normalisation."""
        return BatchNorm(
            use_running_average=not self.train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            scale_init=scale_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def activate(self, x: Array) -> Array:
        """``x`` after the activation."""
        return ACTIVATIONS[self.activation](x)


class ConvNorm(nn.Module):
    """A convolution ``conv``, batch normalisation ``norm`` and an activation.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        kernel_size: height and width of the kernel in pixels, or one number for both.
        strides: step in pixels, in both directions.
        padding: see `vitjax.nn.conv.Conv`; None for that of ``layers``.
        groups: see `vitjax.nn.conv.Conv`.
        dilation: see `vitjax.nn.conv.Conv`.
        scale_init: initialiser of the normalisation's scale.
        use_bias: the convolution adds a bias.
        activate: whether the activation is applied.
    """

    layers: Layers
    features: int
    kernel_size: int | tuple[int, int] = 1
    strides: int = 1
    padding: Padding = None
    groups: int = 1
    dilation: int = 1
    scale_init: Initializer = nn.initializers.ones
    use_bias: bool = False
    activate: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the three."""
        x = self.layers.conv(
            self.features,
            self.kernel_size,
            self.strides,
            padding=self.padding,
            groups=self.groups,
            dilation=self.dilation,
            use_bias=self.use_bias,
            name="conv",
        )(x)
        x = self.layers.norm(scale_init=self.scale_init, name="norm")(x)
        return self.layers.activate(x) if self.activate else x
