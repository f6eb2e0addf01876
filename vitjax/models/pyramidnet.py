"""PyramidNet: residual networks whose blocks widen one after the other."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes, Width
from vitjax.models.registry import CIFAR10, IMAGENET, MODELS
from vitjax.nn.conv_norm import Layers
from vitjax.nn.residual import add
from vitjax.nn.window_pooling import average_pool, max_pool

BlockKind = Literal["basic", "bottleneck"]
Stem = Literal["imagenet", "cifar"]
# Channels of a bottleneck's output over those of its inner layers.
EXPANSION = 4


class PyramidBlock(nn.Module):
    """Normalisation first and last, and a shortcut that is padded with channels of zeros.

    Han et al. 2017, arXiv:1610.02915, Sec. 3: a pre-activation block without its first ReLU and
    with a normalisation after the last convolution. Where the map is halved, the shortcut is the
    mean of 2 x 2 pixels. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        planes: channels of the inner layers.
        bottleneck: three convolutions (1, 3, 1) in place of two (3, 3).
        strides: of the block, in pixels.
    """

    layers: Layers
    planes: int
    bottleneck: bool
    strides: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width out"]:
        """Applies the block."""
        if self.bottleneck:
            plan = [(1, 1, 1), (1, 3, self.strides), (EXPANSION, 1, 1)]
        else:
            plan = [(1, 3, self.strides), (1, 3, 1)]
        y = x
        for i, (factor, size, strides) in enumerate(plan, start=1):
            y = self.layers.norm(name=f"norm{i}")(y)
            y = y if i == 1 else jax.nn.relu(y)
            y = self.layers.conv(factor * self.planes, size, strides, name=f"conv{i}")(y)
        y = self.layers.norm(name=f"norm{len(plan) + 1}")(y)
        if self.strides > 1:
            x = average_pool(x, self.strides, self.strides, ceil=True)
        x = jnp.pad(x, [(0, 0)] * 3 + [(0, y.shape[-1] - x.shape[-1])])
        x = add(x, y)
        self.sow("intermediates", "output", x)
        return x


class PyramidNet(ConvNet):
    """A residual network whose width grows by the same number of channels in each block.

    Han et al. 2017, arXiv:1610.02915, Sec. 2 and 3: the additive form. Each block adds ``alpha``
    over the number of blocks, rounded as in the authors' code (dyhan0920/PyramidNet-PyTorch), whose
    initialisation this is too. The map of a stage is that of its last block; the last map is taken
    after the final normalisation and ReLU.

    Attributes:
        stage_sizes: blocks of each stage; all but the first stage halve the map.
        alpha: channels that all blocks add together.
        block: ``"basic"`` (two 3 x 3) or ``"bottleneck"`` (1 x 1, 3 x 3, 1 x 1).
        width: channels of the stem.
        stem: ``"imagenet"`` (7 x 7 of stride 2, normalisation, ReLU, 3 x 3 max pooling of stride 2)
            or ``"cifar"`` (3 x 3 and normalisation).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)

    stage_sizes: StageSizes = (3, 24, 36, 3)
    alpha: Width = 300
    block: BlockKind = "bottleneck"
    width: Width = 64
    stem: Stem = "imagenet"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """32, or of a CIFAR network the side of which the last map has one pixel."""
        return (
            ConvNet.smallest_image if self.stem == "imagenet" else 2 ** (len(self.stage_sizes) - 1)
        )

    def planes(self) -> list[int]:
        """Channels of the inner layers of each block."""
        # Summed up, as in the authors' code: a product may be rounded to the other side.
        total, found = float(self.width), []
        for _ in range(sum(self.stage_sizes)):
            total += self.alpha / sum(self.stage_sizes)
            found.append(round(total))
        return found

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem, unless the first stage has its size, and of each stage."""
        layers, found = self.layers(train), {}
        if self.stem == "imagenet":
            x = layers.conv(self.width, 7, 2, name="stem_conv")(images)
            x = found["stem"] = jax.nn.relu(layers.norm(name="stem_norm")(x))
            x = max_pool(x, 3, 2, 1)
        else:
            x = layers.conv(self.width, 3, name="stem_conv")(images)
            x = layers.norm(name="stem_norm")(x)
        planes, bottleneck = iter(self.planes()), self.block == "bottleneck"
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            for i in range(1, blocks + 1):
                strides = 2 if stage > 1 and i == 1 else 1
                name = f"stage{stage}_block{i}"
                x = PyramidBlock(layers, next(planes), bottleneck, strides, name=name)(x)
            found[f"stage{stage}"] = x
        x = jax.nn.relu(layers.norm(name="last_norm")(x))
        return {**found, f"stage{len(self.stage_sizes)}": x}


_PAPER: dict[str, Any] = {"paper": "Han et al. 2017, arXiv:1610.02915", "year": 2017}
_CIFAR: tuple[tuple[int, int, BlockKind], ...] = (
    (110, 48, "basic"),
    (110, 270, "basic"),
    (272, 200, "bottleneck"),
)
for _depth, _alpha, _block in _CIFAR:
    # Three stages of blocks with two or three convolutions, beside the stem and the head.
    _size = (_depth - 2) // (6 if _block == "basic" else 9)
    MODELS.register(f"pyramidnet{_depth}_a{_alpha}", image_size=32, **_PAPER, **CIFAR10)(
        functools.partial(
            PyramidNet,
            stage_sizes=(_size,) * 3,
            alpha=_alpha,
            block=_block,
            width=16,
            stem="cifar",
            num_classes=10,
        )
    )
MODELS.register(
    "pyramidnet101_a360",
    image_size=224,
    accuracy=78.02,
    accuracy_source="dyhan0920/PyramidNet-PyTorch",
    **_PAPER,
    **IMAGENET,
)(functools.partial(PyramidNet, stage_sizes=(3, 4, 23, 3), alpha=360))
MODELS.register("pyramidnet200_a300", image_size=224, **_PAPER, **IMAGENET)(
    functools.partial(PyramidNet)
)
