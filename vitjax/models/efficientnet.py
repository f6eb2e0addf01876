"""EfficientNet: width, depth and resolution scaled together."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Limit
from vitjax.models.protocol import Shapeless
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import ConvNorm
from vitjax.nn.inverted_residual import InvertedResidual

# Expansion, channels, blocks, stride and kernel size: arXiv:1905.11946, Table 1.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _LAST = 32, 1280
# How much of depth, width and resolution one step adds: arXiv:1905.11946, Sec. 5, step 1.
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
# Width, depth, resolution and dropout of the published networks, from tensorflow/tpu.
SCALES: Mapping[str, tuple[float, float, int, float]] = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 280, 0.3),
    "lite4": (1.4, 1.8, 300, 0.3),
}
# Normal, by the outputs that one input reaches. A depthwise kernel has as many as inputs.
DEPTHWISE_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# Uniform within 1 / sqrt(outputs).
HEAD_INIT: dict[str, Any] = {
    "kernel_init": nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform"),
    "bias_init": nn.initializers.zeros,
}


def compound_scaling(phi: float) -> tuple[float, float, int]:
    """The width, the depth and the resolution of EfficientNet-B0 scaled by ``phi``.

    Tan and Le 2019, arXiv:1905.11946, Eq. 3 and Sec. 5: depth grows by 1.2 ** phi, width by
    1.1 ** phi and resolution by 1.15 ** phi, so that FLOPs grow by about 2 ** phi. The networks
    that were published have other numbers (`SCALES`): B1 to B3 are those of phi = 0.5, 1 and 2,
    rounded; B4 to B7 are wider, and have larger images, than their depth would give.

    Args:
        phi: the compound coefficient; 0 for B0.

    Returns:
        ``width_factor``, ``depth_factor``, and pixels of a side.
    """
    return BETA**phi, ALPHA**phi, round(SCALES["b0"][2] * GAMMA**phi)


class EfficientNet(ConvNet):
    """Inverted residual blocks with squeeze and excitation, and a last 1 x 1 convolution.

    Tan and Le 2019, arXiv:1905.11946, Table 1, scaled by Eq. 3. Channels are rounded to multiples
    of 8 and blocks up. Padding, epsilon and momentum of batch normalisation are those of timm's
    ``efficientnet_*``, and the initialisation is that of timm and of tensorflow/tpu. Networks that
    were trained with TensorFlow, such as timm's ``tf_efficientnet_*``, have ``padding="same"`` and
    ``norm_epsilon=1e-3``.

    Attributes:
        width_factor: multiplies the numbers of channels.
        depth_factor: multiplies the numbers of blocks of each stage.
        lite: EfficientNet-Lite (tensorflow/tpu): ReLU6 in place of SiLU, no squeeze and excitation;
            the stem, the last convolution and the numbers of blocks of the first and the last
            stage are not scaled.
        padding: of strided convolutions: ``"symmetric"``, as in PyTorch, or ``"same"``, as in
            TensorFlow; see `vitjax.nn.conv.Conv`.
        norm_epsilon: of batch normalisation.
        drop_path: rate of stochastic depth (Sec. 5.2), which grows linearly from 0 at the first
            block and would reach this after the last one.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        "padding": Shapeless(),
        "norm_epsilon": Shapeless(),
    }

    width_factor: PositiveFloat = 1.0
    depth_factor: Annotated[PositiveFloat, Limit(100)] = 1.0
    lite: bool = False
    padding: Literal["symmetric", "same"] = "symmetric"
    norm_epsilon: PositiveFloat = 1e-5
    dropout: Rate = 0.2
    drop_path: Rate = 0.2

    @property
    def stage_sizes(self) -> tuple[int, ...]:
        """The numbers of blocks of the stages."""
        kept = {0, len(STAGES) - 1} if self.lite else set()
        return tuple(
            blocks if stage in kept else math.ceil(blocks * self.depth_factor)
            for stage, (_, _, blocks, *_) in enumerate(STAGES)
        )

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(
            train,
            activation="relu6" if self.lite else "silu",
            padding="same" if self.padding == "same" else None,
            epsilon=self.norm_epsilon,
        )
        x = ConvNorm(layers, self._fixed(_STEM), 3, 2, name="stem")(images)
        sizes, done = self.stage_sizes, 0
        found: dict[str, Array] = {}
        for stage, (expansion, channels, _, strides, kernel_size) in enumerate(STAGES, start=1):
            for block in range(1, sizes[stage - 1] + 1):
                x = InvertedResidual(
                    layers,
                    self._rounded(channels),
                    expansion,
                    strides if block == 1 else 1,
                    kernel_size,
                    depthwise_init=DEPTHWISE_INIT,
                    squeeze=0 if self.lite else 4,
                    drop_path=self.drop_path * done / sum(sizes),
                    name=f"stage{stage}_block{block}",
                )(x)
                done += 1
            found[f"stage{stage}"] = x
        x = ConvNorm(layers, self._fixed(_LAST), name="last")(x)
        kept = ("stage1", "stage2", "stage3", "stage5")
        return {name: found[name] for name in kept} | {"last": x}

    def classifier(self, x: Array, train: bool, **initialisers: Any) -> Array:
        """As `ConvNet.classifier`, with timm's initialisation."""
        return super().classifier(x, train, **{**HEAD_INIT, **initialisers})

    def _rounded(self, channels: int) -> int:
        return round_channels(channels * self.width_factor)

    def _fixed(self, channels: int) -> int:
        """Channels of the first and the last convolution."""
        return channels if self.lite else self._rounded(channels)


_ACCURACY = {
    "b0": 77.692,
    "b1": 78.642,
    "b2": 80.608,
    "b3": 82.008,
    "b4": 83.384,
    "b5": 83.444,
    "b6": 84.008,
    "b7": 84.122,
}
for _name, (_width, _depth, _side, _dropout) in SCALES.items():
    MODELS.register(
        f"efficientnet_{_name}",
        image_size=_side,
        paper="Tan and Le 2019, arXiv:1905.11946",
        year=2019,
        accuracy=_ACCURACY.get(_name),
        accuracy_source="torchvision IMAGENET1K_V1" if _name in _ACCURACY else "",
        interpolation="bicubic",
        **IMAGENET,
    )(
        functools.partial(
            EfficientNet,
            width_factor=_width,
            depth_factor=_depth,
            lite=_name.startswith("lite"),
            dropout=_dropout,
        )
    )
