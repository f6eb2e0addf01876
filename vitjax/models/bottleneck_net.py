"""Networks of bottleneck blocks that differ within a block: relatives of ResNet."""

import abc
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes, Width
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.residual import add_and_rectify
from vitjax.nn.window_pooling import max_pool

# A block's output has four times the channels of its stage (arXiv:1512.03385, Table 1).
EXPANSION = 4
_BLOCK = re.compile(r"(?:^|/)stage(\d+)_block(\d+)/")


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 beside a shortcut, with a ReLU after the sum.

    He et al. 2016, arXiv:1512.03385, Fig. 5, with the stride in the middle, whose convolution may
    be in groups: Xie et al. 2017 (ResNeXt), arXiv:1611.05431, Fig. 3(c). A relative overrides what
    it does otherwise. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        planes: channels of the stage.
        strides: of the block, in pixels.
        zero_init: start the last normalisation's scale, and so the branch, at zero.
        inner: channels of the middle convolution; None for ``planes``.
        groups: of the middle convolution.
    """

    layers: Layers
    planes: int
    strides: int
    zero_init: bool
    inner: int | None = None
    groups: int = 1

    @property
    def width(self) -> int:
        """Channels of the middle convolution."""
        return self.inner or self.planes

    @property
    def first_width(self) -> int:
        """Channels after the first convolution."""
        return self.width

    def middle(self, x: Array) -> Array:
        """The middle convolution, by name ``conv2``."""
        conv = ConvNorm(self.layers, self.width, 3, self.strides, groups=self.groups, name="conv2")
        return conv(x)

    def attend(self, x: Array) -> Array:
        """What follows the last convolution."""
        return x

    def shortcut(self, x: Array) -> Array:
        """The shortcut where the shape changes."""
        features = self.planes * EXPANSION
        return ConvNorm(self.layers, features, 1, self.strides, activate=False, name="shortcut")(x)

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width out"]:
        """Applies the block."""
        features = self.planes * EXPANSION
        y = ConvNorm(self.layers, self.first_width, name="conv1")(x)
        y = self.middle(y)
        scale_init = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        y = ConvNorm(self.layers, features, scale_init=scale_init, activate=False, name="conv3")(y)
        y = self.attend(y)
        if self.strides != 1 or x.shape[-1] != features:
            x = self.shortcut(x)
        x = add_and_rectify(x, y)
        self.sow("intermediates", "output", x)
        return x


class BottleneckNet(ConvNet):
    """Stages of `Bottleneck` or its relatives, each of which halves the map.

    He et al. 2016, arXiv:1512.03385, Table 1. The map ``stem`` is that before the max pooling.

    Attributes:
        stage_sizes: number of blocks of each stage.
        width: channels of the first stage; each later stage has twice as many.
        zero_init_residual: initialise every residual branch to zero (arXiv:1706.02677, Sec. 5.1).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)
    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = {"stage_sizes": _BLOCK}

    stage_sizes: StageSizes = (3, 4, 6, 3)
    width: Width = 64
    zero_init_residual: bool = False

    @abc.abstractmethod
    def block(self, name: str, layers: Layers, planes: int, strides: int) -> nn.Module:
        """A block.

        Args:
            name: of the module.
            layers: what the network's layers share.
            planes: channels of the stage.
            strides: of the block, in pixels.
        """

    def stem(self, layers: Layers, images: Array) -> Array:
        """What precedes the max pooling: a 7 x 7 convolution of stride 2."""
        x = layers.conv(self.width, 7, 2, name="stem_conv")(images)
        return jax.nn.relu(layers.norm(name="stem_norm")(x))

    def pool(self, x: Array) -> Array:
        """The max pooling after the stem."""
        return max_pool(x, 3, 2, 1)

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem and of each stage."""
        # Only layers of attention have biases, which the references leave as PyTorch makes them.
        layers = self.layers(train, bias_init="pytorch")
        x = self.stem(layers, images)
        found = {"stem": x}
        x = self.pool(x)
        for stage, blocks in enumerate(self.stage_sizes):
            for i in range(blocks):
                name, strides = f"stage{stage + 1}_block{i + 1}", 2 if stage > 0 and i == 0 else 1
                x = self.block(name, layers, self.width * 2**stage, strides)(x)
            found[f"stage{stage + 1}"] = x
        return found

    def effective_fields(self) -> dict[str, Any]:
        """As `Model.effective_fields`."""
        fields = super().effective_fields()
        del fields["zero_init_residual"]
        return fields


def deep_stem(layers: Layers, images: Array, widths: tuple[int, int, int]) -> Array:
    """Three 3 x 3 convolutions ``stem1`` to ``stem3``, the first of stride 2, in place of a 7 x 7.

    Szegedy et al. 2016, arXiv:1512.00567, Sec. 3.1; He et al. 2019, arXiv:1812.01187, Fig. 2(b).
    """
    x = images
    for i, features in enumerate(widths, start=1):
        x = ConvNorm(layers, features, 3, 2 if i == 1 else 1, name=f"stem{i}")(x)
    return x
