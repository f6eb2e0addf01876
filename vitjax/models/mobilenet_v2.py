"""MobileNetV2: inverted residuals with linear bottlenecks."""

import functools
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.conv_norm import ConvNorm, Layers

# Expansion t, channels c, blocks n and stride s: arXiv:1801.04381, Table 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _LAST = 32, 1280


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, and at least 90% of it.

    As in the code of the paper (tensorflow/models, ``mobilenet.py``) and in EfficientNet's.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class InvertedResidual(nn.Module):
    """A 1 x 1 expansion, a depthwise 3 x 3 and a linear 1 x 1 convolution beside a shortcut.

    Sandler et al. 2018, arXiv:1801.04381, Sec. 3.4 and Table 1. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        expansion: inner channels over input channels; 1 leaves the first convolution out.
        strides: of the depthwise convolution.
    """

    layers: Layers
    features: int
    expansion: int
    strides: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        inner, y = x.shape[-1] * self.expansion, x
        if self.expansion != 1:
            y = ConvNorm(self.layers, inner, name="expand")(y)
        y = ConvNorm(self.layers, inner, 3, self.strides, groups=inner, name="depthwise")(y)
        y = ConvNorm(self.layers, self.features, activate=False, name="project")(y)
        if self.strides == 1 and x.shape[-1] == self.features:
            y = y + x
        self.sow("intermediates", "output", y)
        return y


class MobileNetV2(ConvNet):
    """Inverted residual blocks and a last 1 x 1 convolution.

    Sandler et al. 2018, arXiv:1801.04381, Table 2. Channels are rounded as in the paper's code; the
    last convolution is not narrowed by a ``width_factor`` below 1.

    Attributes:
        width_factor: multiplies the numbers of channels (Sec. 5).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)

    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.2

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(train, activation="relu6")
        x = ConvNorm(layers, self._rounded(_STEM), 3, 2, name="stem")(images)
        found = {"stem": x}
        for stage, (expansion, channels, blocks, strides) in enumerate(STAGES, start=1):
            for block in range(1, blocks + 1):
                x = InvertedResidual(
                    layers,
                    self._rounded(channels),
                    expansion,
                    strides if block == 1 else 1,
                    name=f"stage{stage}_block{block}",
                )(x)
            found[f"stage{stage}"] = x
        x = ConvNorm(layers, max(_LAST, self._rounded(_LAST)), name="last")(x)
        kept = ("stage1", "stage2", "stage3", "stage5")
        return {name: found[name] for name in kept} | {"last": x}

    def _rounded(self, channels: int) -> int:
        return round_channels(channels * self.width_factor)


# Top-1 of torchvision's IMAGENET1K_V1 weights.
_ACCURACY = {"": {"accuracy": 71.878, "accuracy_source": "torchvision IMAGENET1K_V1"}}

for _name, _factor in {"": 1.0, "_050": 0.5, "_140": 1.4}.items():
    MODELS.register(
        f"mobilenet_v2{_name}",
        image_size=224,
        paper="Sandler et al. 2018, arXiv:1801.04381",
        year=2018,
        **IMAGENET,
        **_ACCURACY.get(_name, {}),
    )(functools.partial(MobileNetV2, width_factor=_factor))
