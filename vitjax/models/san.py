"""SAN: residual networks of self-attention over the neighbours of each pixel."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.core.constraints import Bounds, Length
from vitjax.core.errors import ConfigError
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Limit, StageSizes, StageWidths
from vitjax.models.protocol import Shapeless
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.conv_norm import Layers
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.local_attention import LocalAttention, PairwiseAttention, PatchwiseAttention
from vitjax.nn.pooling import max_pool
from vitjax.nn.residual import add

# Channels of a stage over those of the values, over those of the relation, and channels of the
# values that share weights: hszhao/SAN, model/san.py.
VALUES, RELATION, SHARE = 4, 16, 8

Footprints = Annotated[
    Sequence[Annotated[int, Bounds(at_least=3), Limit(1_024)]], Length(), Limit(12)
]


class Block(nn.Module):
    """Attention and a 1 x 1 convolution, each after normalisation and ReLU, beside a shortcut.

    Zhao et al. 2020, arXiv:2004.13621, Sec. 3. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        attention: the class of the attention.
        size: side of its footprint in pixels.
    """

    layers: Layers
    attention: type[LocalAttention]
    size: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Applies the block."""
        features, layers = x.shape[-1], self.layers
        y = jax.nn.relu(layers.norm(name="norm1")(x))
        y = self.attention(
            layers,
            features // VALUES,
            features // RELATION,
            SHARE,
            self.size,
            name="attention",
        )(y)
        y = jax.nn.relu(layers.norm(name="norm2")(y))
        y = layers.conv(features, use_bias=True, name="conv")(y)
        x = add(x, y)
        self.sow("intermediates", "output", x)
        return x


class SAN(ConvNet):
    """Stages that halve the map, of blocks in which attention takes the place of convolutions.

    Zhao et al. 2020, arXiv:2004.13621, Sec. 3, with the layers and the initialisation (PyTorch's)
    of the authors' code. All convolutions are 1 x 1.

    Attributes:
        stage_sizes: blocks of each stage.
        kernel_sizes: sides of the footprint in each stage in pixels, odd numbers.
        widths: channels of each stage, multiples of 32; the stem has those of the first.

    The other attributes are those of `ConvNet`.
    """

    attention: ClassVar[type[LocalAttention]]
    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)

    stage_sizes: StageSizes = (2, 1, 2, 4, 1)
    kernel_sizes: Footprints = (3, 7, 7, 7, 7)
    widths: StageWidths = (64, 256, 512, 1024, 2048)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, found in (("kernel_sizes", self.kernel_sizes), ("widths", self.widths)):
            if len(found) != len(self.stage_sizes):
                raise ConfigError(
                    f"{name}={list(found)!r} has {len(found)} values; it must have one for each of"
                    f" the {len(self.stage_sizes)} stages of stage_sizes={list(self.stage_sizes)!r}"
                )
        if even := [size for size in self.kernel_sizes if size % 2 == 0]:
            raise ConfigError(f"kernel_sizes has {even[0]}: it must be odd, to have a centre")
        least = VALUES * SHARE
        if wrong := [width for width in self.widths if width % least]:
            raise ConfigError(f"widths has {wrong[0]}: it must be a multiple of {least}")

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """The fewest pixels of a side: each map is larger than half of its footprint."""
        return max(
            2**stage * (size // 2 + 1) for stage, size in enumerate(self.kernel_sizes, start=1)
        )

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem and of each stage."""
        layers = self.layers(train, kernel_init=pytorch_kernel, bias_init="pytorch")
        x = layers.conv(self.widths[0], name="stem_conv")(images)
        x = jax.nn.relu(layers.norm(name="stem_norm")(x))
        found = {"stem": x}
        stages = zip(self.stage_sizes, self.kernel_sizes, self.widths, strict=True)
        for stage, (blocks, size, width) in enumerate(stages, start=1):
            x = layers.conv(width, name=f"stage{stage}_conv0")(max_pool(x, 2))
            for i in range(1, blocks + 1):
                x = Block(layers, self.attention, size, name=f"stage{stage}_block{i}")(x)
            x = jax.nn.relu(layers.norm(name=f"stage{stage}_norm")(x))
            found[f"stage{stage}"] = x
        return found


class PairwiseSAN(SAN):
    """A `SAN` of pairwise attention, arXiv:2004.13621, Sec. 3.1; its attributes."""

    attention: ClassVar[type[LocalAttention]] = PairwiseAttention
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {"kernel_sizes": Shapeless()}


class PatchwiseSAN(SAN):
    """A `SAN` of patchwise attention, arXiv:2004.13621, Sec. 3.2; its attributes."""

    attention: ClassVar[type[LocalAttention]] = PatchwiseAttention


_PAPER: dict[str, Any] = {
    "paper": "Zhao et al. 2020, arXiv:2004.13621",
    "year": 2020,
    "accuracy_source": "hszhao/SAN",
}
_SIZES = {"san10": (2, 1, 2, 4, 1), "san15": (3, 2, 3, 5, 2), "san19": (3, 3, 4, 6, 3)}
# Of the weights that hszhao/SAN publishes, by its table.
_ACCURACIES = {
    "san10_pairwise": 74.9,
    "san10_patchwise": 77.1,
    "san15_pairwise": 76.6,
    "san15_patchwise": 78.0,
    "san19_pairwise": 76.9,
    "san19_patchwise": 78.2,
}
_CLASSES: dict[str, type[SAN]] = {"pairwise": PairwiseSAN, "patchwise": PatchwiseSAN}
for _name, _accuracy in _ACCURACIES.items():
    _size, _kind = _name.split("_")
    MODELS.register(_name, image_size=224, accuracy=_accuracy, **_PAPER, **IMAGENET)(
        functools.partial(_CLASSES[_kind], stage_sizes=_SIZES[_size])
    )
