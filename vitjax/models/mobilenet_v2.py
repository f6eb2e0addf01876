"""MobileNetV2: inverted residuals with linear bottlenecks."""

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
_HEAD_INIT: dict[str, Any] = {
    "kernel_init": nn.initializers.normal(0.01),
    "bias_init": nn.initializers.zeros,
}


class MobileNetV2(ConvNet):
    """Inverted residual blocks and a last 1 x 1 convolution.

    Sandler et al. 2018, arXiv:1801.04381, Table 2. Channels are rounded as in the paper's code; the
    last convolution is not narrowed by a ``width_factor`` below 1. The initialisation is that of
    torchvision.

    Attributes:
        width_factor: multiplies the numbers of channels (Sec. 5).

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
        layers = self.layers(train, activation="relu6")
        x = ConvNorm(layers, self._rounded(_STEM), 3, 2, name="stem")(images)
        found = {}
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

    def classifier(self, x: Array, train: bool, **initialisers: Any) -> Array:
        """As `ConvNet.classifier`, with torchvision's initialisation."""
        return super().classifier(x, train, **{**_HEAD_INIT, **initialisers})

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
