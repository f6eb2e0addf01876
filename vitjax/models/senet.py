"""SENet-154, the network of the authors' entry to ILSVRC 2017."""

import functools
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array

from vitjax.core.validation import Rate
from vitjax.models.bottleneck_net import EXPANSION, BottleneckNet, deep_stem
from vitjax.models.limits import Groups, StageSizes
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.models.resnext import REDUCTION, SEBottleneck
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.window_pooling import max_pool


class SENetBottleneck(SEBottleneck):
    """A bottleneck whose first convolution has half of the channels of the second."""

    @property
    def first_width(self) -> int:
        """Channels after the first convolution."""
        return self.width // 2

    @property
    def reduced(self) -> int:
        """Channels between the layers of its attention."""
        return self.planes * EXPANSION // REDUCTION

    def shortcut(self, x: Array) -> Array:
        """A convolution of 3 x 3 where it halves the map, else of 1 x 1."""
        features, size = self.planes * EXPANSION, 3 if self.strides > 1 else 1
        conv = ConvNorm(self.layers, features, size, self.strides, activate=False, name="shortcut")
        return conv(x)


class SENet(BottleneckNet):
    """ResNeXt-152 in 64 groups with squeeze and excitation, and further changes.

    Hu et al. 2018, arXiv:1709.01507, appendix: the first convolution of a block has half of the
    channels, the stem has three 3 x 3 convolutions, shortcuts that halve the map are 3 x 3, and
    dropout precedes the head.

    Attributes:
        groups: of the middle convolutions.

    The other attributes are those of `BottleneckNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)

    stage_sizes: StageSizes = (3, 8, 36, 3)
    groups: Groups = 64
    dropout: Rate = 0.2

    def stem(self, layers: Layers, images: Array) -> Array:
        """Three convolutions."""
        return deep_stem(layers, images, (self.width, self.width, 2 * self.width))

    def pool(self, x: Array) -> Array:
        """The max pooling after the stem: as Caffe's, of incomplete windows too."""
        return max_pool(x, 3, 2, ceil=True)

    def block(self, name: str, layers: Layers, planes: int, strides: int) -> nn.Module:
        """A block, see `BottleneckNet.block`."""
        zero, inner = self.zero_init_residual, 4 * planes
        return SENetBottleneck(layers, planes, strides, zero, inner, self.groups, name=name)


MODELS.register(
    "senet154",
    image_size=224,
    paper="Hu et al. 2018, arXiv:1709.01507",
    year=2018,
    **IMAGENET,
)(functools.partial(SENet))
