"""MnasNet: inverted residuals found by a search that measures latency."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import ConvNorm
from vitjax.nn.inverted_residual import InvertedResidual

# Expansion, channels, blocks, stride and kernel size of MnasNet-B1, as torchvision has it.
STAGES = (
    (1, 16, 1, 1, 3),
    (3, 24, 3, 2, 3),
    (3, 40, 3, 2, 5),
    (6, 80, 3, 2, 5),
    (6, 96, 2, 1, 3),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _LAST = 32, 1280
# Uniform with variance 1 / outputs.
_HEAD = nn.initializers.variance_scaling(1.0, "fan_out", "uniform")


class MnasNet(ConvNet):
    """Inverted residual blocks with kernels of 3 x 3 and 5 x 5, and a last 1 x 1 convolution.

    Tan et al. 2019, arXiv:1807.11626, in the form without squeeze and excitation (B1), with the
    channels, the momentum of batch normalisation and the initialisation of torchvision.

    Attributes:
        width_factor: multiplies the numbers of channels (Sec. 6.2), but for the last convolution.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)

    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.2

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(train, momentum=0.9997)
        x = ConvNorm(layers, self._rounded(_STEM), 3, 2, name="stem")(images)
        found = {}
        for stage, (expansion, channels, blocks, strides, kernel_size) in enumerate(STAGES, 1):
            for block in range(1, blocks + 1):
                x = InvertedResidual(
                    layers,
                    self._rounded(channels),
                    expansion,
                    strides if block == 1 else 1,
                    kernel_size,
                    shortcut=stage > 1,
                    name=f"stage{stage}_block{block}",
                )(x)
            found[f"stage{stage}"] = x
        x = ConvNorm(layers, _LAST, name="last")(x)
        kept = ("stage1", "stage2", "stage3", "stage5")
        return {name: found[name] for name in kept} | {"last": x}

    def classifier(self, x: Array, train: bool, **initialisers: Any) -> Array:
        """As `ConvNet.classifier`, with torchvision's initialisation."""
        initial = {"kernel_init": _HEAD, "bias_init": nn.initializers.zeros}
        return super().classifier(x, train, **{**initial, **initialisers})

    def _rounded(self, channels: int) -> int:
        return round_channels(channels * self.width_factor)


for _name, _factor in {"mnasnet0_5": 0.5, "mnasnet1_0": 1.0}.items():
    MODELS.register(
        _name,
        image_size=224,
        paper="Tan et al. 2019, arXiv:1807.11626",
        year=2019,
        accuracy={"mnasnet0_5": 67.734, "mnasnet1_0": 73.456}[_name],
        accuracy_source="torchvision IMAGENET1K_V1",
        **IMAGENET,
    )(functools.partial(MnasNet, width_factor=_factor))
