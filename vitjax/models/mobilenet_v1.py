"""MobileNet: depthwise separable convolutions."""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat
from vitjax.models.convnet import ConvNet
from vitjax.models.efficientnet import DEPTHWISE_INIT, HEAD_INIT
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import ConvNorm, Layers

# Channels and blocks of each stage, all but the first of which halve the map: arXiv:1704.04861,
# Table 1.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
_STEM = 32


class SeparableBlock(nn.Module):
    """A depthwise 3 x 3 and a 1 x 1 convolution, each with normalisation and activation.

    Howard et al. 2017, arXiv:1704.04861, Fig. 3. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        strides: of the depthwise convolution.
    """

    layers: Layers
    features: int
    strides: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        channels = x.shape[-1]
        layers = dataclasses.replace(self.layers, kernel_init=DEPTHWISE_INIT)
        depthwise = ConvNorm(layers, channels, 3, self.strides, groups=channels, name="depthwise")
        x = ConvNorm(self.layers, self.features, name="pointwise")(depthwise(x))
        self.sow("intermediates", "output", x)
        return x


class MobileNetV1(ConvNet):
    """A stem and 13 depthwise separable convolutions.

    Howard et al. 2017, arXiv:1704.04861, Table 1, with ReLU6 and rounded channels as in the
    authors' code, and the initialisation of timm, which is EfficientNet's.

    Attributes:
        width_factor: multiplies the numbers of channels (alpha in Sec. 3.3).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)

    width_factor: PositiveFloat = 1.0

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage."""
        layers, found = self.layers(train, activation="relu6"), {}
        x = ConvNorm(layers, round_channels(_STEM * self.width_factor), 3, 2, name="stem")(images)
        for stage, (channels, blocks) in enumerate(STAGES, start=1):
            for i in range(1, blocks + 1):
                x = SeparableBlock(
                    layers,
                    round_channels(channels * self.width_factor),
                    2 if stage > 1 and i == 1 else 1,
                    name=f"stage{stage}_block{i}",
                )(x)
            found[f"stage{stage}"] = x
        return found

    def classifier(self, x: Array, train: bool, **initialisers: Any) -> Array:
        """As `ConvNet.classifier`, with timm's initialisation."""
        return super().classifier(x, train, **{**HEAD_INIT, **initialisers})


MODELS.register(
    "mobilenet_v1",
    image_size=224,
    paper="Howard et al. 2017, arXiv:1704.04861",
    year=2017,
    **SYMMETRIC,
)(functools.partial(MobileNetV1))
