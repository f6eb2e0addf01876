"""ResNeSt: bottlenecks with split attention."""

import functools
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array

from vitjax.models.bottleneck_net import EXPANSION, Bottleneck, BottleneckNet, deep_stem
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.split_attention import SplitAttention
from vitjax.nn.window_pooling import average_pool


class ResNeStBottleneck(Bottleneck):
    """A bottleneck with split attention; where it halves the map, poolings do (Sec. 3.2)."""

    def middle(self, x: Array) -> Array:
        """Split attention, then average pooling in the first block of a stage."""
        x = SplitAttention(self.layers, self.width, name="conv2")(x)
        if self.strides == 1:
            return x
        return average_pool(x, 3, self.strides, 1, count_padding=True)

    def shortcut(self, x: Array) -> Array:
        """Average pooling, then a 1 x 1 convolution (arXiv:1812.01187, Fig. 2(c))."""
        if self.strides > 1:
            x = average_pool(x, 2, self.strides, ceil=True)
        features = self.planes * EXPANSION
        return ConvNorm(self.layers, features, activate=False, name="shortcut")(x)


class ResNeSt(BottleneckNet):
    """A residual network of split attention, with a stem of three convolutions.

    Zhang et al. 2020, arXiv:2004.08955, Sec. 3, with radix 2 and cardinality 1. The attributes are
    those of `BottleneckNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)

    def stem(self, layers: Layers, images: Array) -> Array:
        """Three convolutions."""
        return deep_stem(layers, images, (self.width // 2, self.width // 2, self.width))

    def block(self, name: str, layers: Layers, planes: int, strides: int) -> nn.Module:
        """A block, see `BottleneckNet.block`."""
        return ResNeStBottleneck(layers, planes, strides, self.zero_init_residual, name=name)


MODELS.register(
    "resnest50d",
    image_size=224,
    paper="Zhang et al. 2020, arXiv:2004.08955",
    year=2020,
    **IMAGENET,
)(functools.partial(ResNeSt, zero_init_residual=True))  # as timm, the reference, does
