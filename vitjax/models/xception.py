"""Xception: depthwise separable convolutions in place of Inception modules."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat
from vitjax.models.convnet import ConvNet
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.channels import scaled
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.residual import add
from vitjax.nn.window_pooling import max_pool

# Channels of the convolutions of each block, and its stride: arXiv:1610.02357, Fig. 5. Grouped by
# the stride of their map.
STAGES = (
    (((128, 128), 2),),
    (((256, 256), 2),),
    (((728, 728), 2), *(((728, 728, 728), 1),) * 8),
    (((728, 1024), 2),),
)
_STEM, _EXIT = (32, 64), (1536, 2048)


class SeparableConvNorm(nn.Module):
    """A depthwise 3 x 3 and a 1 x 1 convolution, then normalisation.

    Chollet 2017, arXiv:1610.02357, Sec. 3.1: without an activation in between.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
    """

    layers: Layers
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width features"]:
        """Applies the three."""
        x = self.layers.conv(x.shape[-1], 3, groups=x.shape[-1], name="depthwise")(x)
        x = self.layers.conv(self.features, name="pointwise")(x)
        return self.layers.norm(name="norm")(x)


class Block(nn.Module):
    """Separable convolutions, each after a ReLU, and a max pooling, beside a shortcut.

    Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        widths: output channels of the convolutions.
        strides: of the pooling; with 1 there is none.
        activate_first: whether a ReLU precedes the first convolution.
    """

    layers: Layers
    widths: tuple[int, ...]
    strides: int
    activate_first: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width out"]:
        """Applies the block."""
        y = x
        for i, features in enumerate(self.widths, start=1):
            y = jax.nn.relu(y) if i > 1 or self.activate_first else y
            y = SeparableConvNorm(self.layers, features, name=f"conv{i}")(y)
        if self.strides > 1:
            y = max_pool(y, 3, self.strides, 1)
        if self.strides > 1 or x.shape[-1] != self.widths[-1]:
            shortcut = ConvNorm(
                self.layers, self.widths[-1], 1, self.strides, activate=False, name="shortcut"
            )
            x = shortcut(x)
        x = add(x, y)
        self.sow("intermediates", "output", x)
        return x


class Xception(ConvNet):
    """Entry flow, middle flow and exit flow of separable convolutions.

    Chollet 2017, arXiv:1610.02357, Fig. 5, in the form of timm's ``legacy_xception``, whose first
    two convolutions do not pad.

    Attributes:
        width_factor: multiplies the numbers of channels.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)
    aligned_features: ClassVar[bool] = False

    width_factor: PositiveFloat = 1.0

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem and of each stage; the last one after the exit flow."""
        layers = self.layers(train)
        stem1, stem2 = self._scaled(_STEM)
        x = ConvNorm(layers, stem1, 3, 2, padding=0, name="stem1")(images)
        x = ConvNorm(layers, stem2, 3, padding=0, name="stem2")(x)
        found = {"stem": x}
        for stage, blocks in enumerate(STAGES, start=1):
            for i, (widths, strides) in enumerate(blocks, start=1):
                first = stage > 1 or i > 1
                name = f"stage{stage}_block{i}"
                x = Block(layers, self._scaled(widths), strides, first, name=name)(x)
            found[f"stage{stage}"] = x
        for i, features in enumerate(self._scaled(_EXIT), start=1):
            x = jax.nn.relu(SeparableConvNorm(layers, features, name=f"stage4_exit{i + 1}")(x))
        return {**found, "stage4": x}

    def _scaled(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(scaled(width, self.width_factor) for width in widths)


MODELS.register(
    "xception",
    image_size=299,
    paper="Chollet 2017, arXiv:1610.02357",
    year=2017,
    interpolation="bicubic",
    **SYMMETRIC,
)(functools.partial(Xception))
