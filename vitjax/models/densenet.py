"""DenseNet: each layer reads the maps of all layers before it."""

import functools
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes, Width
from vitjax.models.registry import CIFAR10, IMAGENET, MODELS
from vitjax.nn.conv_norm import Layers
from vitjax.nn.window_pooling import average_pool, max_pool

# Channels between the two convolutions of a layer, over those that it adds (arXiv:1608.06993, Sec.
# 3, "Bottleneck layers").
BOTTLENECK = 4
_HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """Normalisation, ReLU and convolution, twice; the result is added to the channels.

    Huang et al. 2017, arXiv:1608.06993, Sec. 3.

    Attributes:
        layers: what the network's layers share.
        growth_rate: channels that the layer adds (k in the paper).
    """

    layers: Layers
    growth_rate: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width out"]:
        """The channels of ``x`` and those that are added."""
        y = self.layers.activate(self.layers.norm(name="norm1")(x))
        y = self.layers.conv(BOTTLENECK * self.growth_rate, name="conv1")(y)
        y = self.layers.activate(self.layers.norm(name="norm2")(y))
        y = self.layers.conv(self.growth_rate, 3, name="conv2")(y)
        return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
    """Normalisation, ReLU, a 1 x 1 convolution to half of the channels, and average pooling.

    Attributes:
        layers: what the network's layers share.
    """

    layers: Layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch half_height half_width half_in"]:
        """Halves the map and its channels."""
        features = x.shape[-1] // 2
        x = self.layers.activate(self.layers.norm(name="norm")(x))
        return average_pool(self.layers.conv(features, name="conv")(x), 2, 2)


class DenseNet(ConvNet):
    """Dense blocks with transitions in between, in the form DenseNet-BC of the paper.

    Huang et al. 2017, arXiv:1608.06993, Table 1 and Sec. 4.2 (for CIFAR). The map of a stage is
    that of its last layer; the last map is taken after the final normalisation and ReLU.

    Attributes:
        stage_sizes: layers of each dense block.
        growth_rate: channels that each layer adds.
        stem_width: channels of the stem; None for twice the growth rate.
        stem: ``"imagenet"`` (7 x 7 of stride 2, normalisation, 3 x 3 max pooling of stride 2) or
            ``"cifar"`` (3 x 3 alone).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)

    stage_sizes: StageSizes = (6, 12, 24, 16)
    growth_rate: Width = 32
    stem_width: Width | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """32, or of a CIFAR network the side of which the last map has one pixel."""
        return (
            ConvNet.smallest_image if self.stem == "imagenet" else 2 ** (len(self.stage_sizes) - 1)
        )

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem, and of each stage."""
        layers, found = self.layers(train, kernel_init=_HE), {}
        width = self.stem_width or 2 * self.growth_rate
        if self.stem == "imagenet":
            x = layers.conv(width, 7, 2, name="stem_conv")(images)
            x = found["stem"] = layers.activate(layers.norm(name="stem_norm")(x))
            x = max_pool(x, 3, 2, 1)
        else:
            x = layers.conv(width, 3, name="stem_conv")(images)
        for stage, number in enumerate(self.stage_sizes, start=1):
            for i in range(1, number + 1):
                x = DenseLayer(layers, self.growth_rate, name=f"stage{stage}_layer{i}")(x)
            if stage < len(self.stage_sizes):
                found[f"stage{stage}"] = x
                x = Transition(layers, name=f"stage{stage}_transition")(x)
        x = layers.activate(layers.norm(name="last_norm")(x))
        return {**found, f"stage{len(self.stage_sizes)}": x}

    def classifier(self, x: Array, train: bool, **initialisers: Any) -> Array:
        """As `ConvNet.classifier`, with a bias of zeros."""
        return super().classifier(x, train, **{"bias_init": nn.initializers.zeros, **initialisers})


_ACCURACY = {121: 74.434, 161: 77.138, 169: 75.6, 201: 76.896}
_PAPER: dict[str, Any] = {"paper": "Huang et al. 2017, arXiv:1608.06993", "year": 2017}
for _depth, _sizes, _growth in (
    (121, (6, 12, 24, 16), 32),
    (161, (6, 12, 36, 24), 48),
    (169, (6, 12, 32, 32), 32),
    (201, (6, 12, 48, 32), 32),
):
    MODELS.register(
        f"densenet{_depth}",
        image_size=224,
        accuracy=_ACCURACY[_depth],
        accuracy_source="torchvision IMAGENET1K_V1",
        **_PAPER,
        **IMAGENET,
    )(functools.partial(DenseNet, stage_sizes=_sizes, growth_rate=_growth, stem="imagenet"))
for _depth, _growth in ((100, 12), (250, 24)):
    # Two convolutions per layer, and four others: Sec. 4.2.
    MODELS.register(f"densenet_bc_{_depth}_{_growth}", image_size=32, **_PAPER, **CIFAR10)(
        functools.partial(
            DenseNet,
            stage_sizes=((_depth - 4) // 6,) * 3,
            growth_rate=_growth,
            stem="cifar",
            num_classes=10,
        )
    )
