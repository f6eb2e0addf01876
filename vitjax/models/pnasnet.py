"""PNASNet-5: one cell that a progressive search found, of five pairs of operations."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import QuarteredWidth, StageSizes, Width
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.searched_cell import (
    LAST,
    PREVIOUS,
    Genotype,
    Identity,
    Pool,
    Separable,
    cell_maker,
    searched_stem,
)

# arXiv:1712.00559, Fig. 1 (left).
CELL = Genotype(
    pairs=(
        (Separable(PREVIOUS, 5), Pool(PREVIOUS, "max")),
        (Separable(LAST, 7), Pool(LAST, "max")),
        (Separable(LAST, 5), Separable(LAST, 3)),
        (Separable(4, 3), Pool(LAST, "max")),
        (Separable(PREVIOUS, 3), Identity(LAST)),
    ),
    outputs=(2, 3, 4, 5, 6),
)


class PNASNet(ConvNet):
    """PNASNet-5: stages of one cell, the first of which halves the map in all stages but one.

    Liu et al. 2018, arXiv:1712.00559, Fig. 1, with PyTorch's initialisation as in timm. Each cell
    reads the last two maps. Two cells with strides and a quarter and a half of the channels precede
    the first stage. The auxiliary head of TensorFlow's training is left out, as in timm.

    Attributes:
        stage_sizes: cells of each stage, with those that have strides.
        width: channels of each state of a cell of the first stage; each later stage has twice as
            many. Maps have 5 times those of their stage.
        stem_width: channels of the first convolution.
        dropout: rate before the head.
        drop_path: rate of dropping the output of an operation in the last cell; it grows linearly
            with the depth. That of TensorFlow's training also grows with the steps.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)
    aligned_features: ClassVar[bool] = False

    stage_sizes: StageSizes = (4, 4, 4)
    width: QuarteredWidth = 216
    stem_width: Width = 96
    dropout: Rate = 0.5
    drop_path: Rate = 0.0

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem, of its first cell and of each stage; the last after a ReLU."""
        layers = self.layers(train, epsilon=1e-3, kernel_init=pytorch_kernel, padding="same")
        cell = cell_maker(layers, 2 + sum(self.stage_sizes), self.drop_path)
        widths = self.stem_width, self.width
        stem, previous, x = searched_stem(layers, cell, CELL, widths, images)
        found, strides = {"stem": stem, "stem_reduced": previous}, 2
        for stage, size in enumerate(self.stage_sizes, start=1):
            width = self.width * 2 ** (stage - 1)
            for i in range(1, size + 1):
                # After a cell with strides, the map before the last is twice as large.
                place = "reduce" if strides == 2 else "project"
                strides = 2 if stage > 1 and i == 1 else 1
                name = f"stage{stage}_cell{i}"
                new = cell(name, CELL, width, strides=strides, previous=place)
                x, previous = new(x, previous), x
            found[f"stage{stage}"] = x
        return {**found, f"stage{len(self.stage_sizes)}": layers.activate(x)}


MODELS.register(
    "pnasnet5_large",
    image_size=331,
    paper="Liu et al. 2018, arXiv:1712.00559",
    year=2018,
    interpolation="bicubic",
    **SYMMETRIC,
)(PNASNet)
