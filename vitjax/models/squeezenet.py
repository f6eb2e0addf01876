"""SqueezeNet: modules that squeeze the channels before they expand them."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import Rate
from vitjax.models.conv_head import ConvHeadNet
from vitjax.models.limits import Pixels, StageSizes, StageWidths, Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.conv_norm import Layers
from vitjax.nn.window_pooling import max_pool

# Channels of each of the two expansions, over those that are squeezed to.
EXPANSION = 4
_HE = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


class Fire(nn.Module):
    """A 1 x 1 convolution to few channels, and a 1 x 1 and a 3 x 3 one that expand them.

    Iandola et al. 2016, arXiv:1602.07360, Sec. 3.2 and Fig. 1. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        squeezed: channels after the first convolution.
    """

    layers: Layers
    squeezed: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width out"]:
        """Applies the module."""
        conv, features = self.layers.conv, EXPANSION * self.squeezed
        x = jax.nn.relu(conv(self.squeezed, use_bias=True, name="squeeze")(x))
        parts = [
            conv(features, use_bias=True, name="expand1x1")(x),
            conv(features, 3, use_bias=True, name="expand3x3")(x),
        ]
        x = jax.nn.relu(jnp.concatenate(parts, axis=-1))
        self.sow("intermediates", "output", x)
        return x


class SqueezeNet(ConvHeadNet):
    """Fire modules between max poolings, and a convolution as the head.

    Iandola et al. 2016, arXiv:1602.07360, Table 1 (version 1.0), with the initialisation of
    torchvision. Version 1.1, of the authors' repository, has a smaller stem and pools earlier.
    Without a head the model returns the last map, which the convolution would read.

    Attributes:
        squeezed: channels that each module squeezes to.
        stage_sizes: modules of each stage; a max pooling precedes each stage.
        stem_width: channels of the stem.
        stem_kernel: side of its kernel in pixels; its stride is 2.
        dropout: rate before the head (Sec. 3.3).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)
    aligned_features: ClassVar[bool] = False

    squeezed: StageWidths = (16, 16, 32, 32, 48, 48, 64, 64)
    stage_sizes: StageSizes = (3, 4, 1)
    stem_width: Width = 96
    stem_kernel: Pixels = 7
    dropout: Rate = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.squeezed) != sum(self.stage_sizes):
            raise ConfigError(
                f"squeezed={list(self.squeezed)!r} has {len(self.squeezed)} values; it must have"
                f" one for each of the {sum(self.stage_sizes)} modules of"
                f" stage_sizes={list(self.stage_sizes)!r}"
            )

    @property
    def head_fields(self) -> dict[str, Any]:
        """As of `ConvHeadNet`."""
        return {"dropout": self.dropout}

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem and of each stage."""
        layers = self.layers(train, kernel_init=_HE)
        stem = layers.conv(
            self.stem_width, self.stem_kernel, 2, padding=0, use_bias=True, name="stem_conv"
        )
        x = jax.nn.relu(stem(images))
        found = {"stem": x}
        widths = iter(self.squeezed)
        for stage, modules in enumerate(self.stage_sizes, start=1):
            x = max_pool(x, 3, 2, ceil=True)
            for i in range(1, modules + 1):
                x = Fire(layers, next(widths), name=f"stage{stage}_fire{i}")(x)
            found[f"stage{stage}"] = x
        return found


_PAPER: dict[str, Any] = {
    "paper": "Iandola et al. 2016, arXiv:1602.07360",
    "year": 2016,
    "accuracy_source": "torchvision IMAGENET1K_V1",
}
MODELS.register("squeezenet1_0", image_size=224, accuracy=58.092, **_PAPER, **IMAGENET)(
    functools.partial(SqueezeNet)
)
MODELS.register("squeezenet1_1", image_size=224, accuracy=58.178, **_PAPER, **IMAGENET)(
    functools.partial(
        SqueezeNet,
        stage_sizes=(2, 2, 4),
        stem_width=64,
        stem_kernel=3,
    )
)
