"""Inverted residual blocks, of MobileNetV2 and of the networks that were searched from it."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.nn.conv import Initializer
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.drop import drop_path
from vitjax.nn.residual import add
from vitjax.nn.squeeze_excite import SqueezeExcite


class InvertedResidual(nn.Module):
    """A 1 x 1 expansion, a depthwise and a linear 1 x 1 convolution beside a shortcut.

    Sandler et al. 2018, arXiv:1801.04381, Sec. 3.4 and Table 1; with squeeze and excitation after
    the depthwise convolution it is the MBConv of arXiv:1807.11626, Fig. 7. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        expansion: inner channels over input channels; 1 leaves the first convolution out.
        strides: of the depthwise convolution.
        kernel_size: of the depthwise convolution, in pixels.
        depthwise_init: initialiser of its kernel; None for that of ``layers``.
        squeeze: input channels over those that squeeze and excitation reduces to; 0 for none.
        shortcut: whether there is one, where the block keeps the shape.
        drop_path: rate of dropping the branch of an example, where there is a shortcut.
    """

    layers: Layers
    features: int
    expansion: int
    strides: int
    kernel_size: int = 3
    depthwise_init: Initializer | None = None
    squeeze: int = 0
    shortcut: bool = True
    drop_path: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        inner, y = x.shape[-1] * self.expansion, x
        if self.expansion != 1:
            y = ConvNorm(self.layers, inner, name="expand")(y)
        init = self.depthwise_init or self.layers.kernel_init
        depthwise = dataclasses.replace(self.layers, kernel_init=init)
        y = ConvNorm(
            depthwise, inner, self.kernel_size, self.strides, groups=inner, name="depthwise"
        )(y)
        if self.squeeze:
            reduced = max(1, round(x.shape[-1] / self.squeeze))
            y = SqueezeExcite(self.layers, reduced, name="squeeze_excite")(y)
        y = ConvNorm(self.layers, self.features, activate=False, name="project")(y)
        if self.shortcut and self.strides == 1 and x.shape[-1] == self.features:
            if self.layers.train and self.drop_path > 0:
                y = drop_path(y, self.drop_path, self.make_rng("dropout"))
            y = add(x, y)
        self.sow("intermediates", "output", y)
        return y
