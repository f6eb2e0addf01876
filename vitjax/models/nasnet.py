"""NASNet: two cells that a controller trained by reinforcement found."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import QuarteredWidth, StageSizes, Width
from vitjax.models.protocol import Shapeless
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

# arXiv:1707.07012, Fig. 4: the best cells, NASNet-A.
NORMAL = Genotype(
    pairs=(
        (Separable(LAST, 5), Separable(PREVIOUS, 3)),
        (Separable(PREVIOUS, 5), Separable(PREVIOUS, 3)),
        (Pool(LAST, "average"), Identity(PREVIOUS)),
        (Pool(PREVIOUS, "average"), Pool(PREVIOUS, "average")),
        (Separable(LAST, 3), Identity(LAST)),
    ),
    outputs=(PREVIOUS, 2, 3, 4, 5, 6),
)
REDUCTION = Genotype(
    pairs=(
        (Separable(LAST, 5), Separable(PREVIOUS, 7)),
        (Pool(LAST, "max"), Separable(PREVIOUS, 7)),
        (Pool(LAST, "average"), Separable(PREVIOUS, 5)),
        (Identity(3), Pool(2, "average")),
        (Separable(2, 3), Pool(LAST, "max")),
    ),
    outputs=(3, 4, 5, 6),
)


class NASNet(ConvNet):
    """NASNet-A: stages of normal cells, between which a reduction cell halves the map.

    Zoph et al. 2018, arXiv:1707.07012, Fig. 2 and 4, with PyTorch's initialisation as in timm. Each
    cell reads the last two maps. Two reduction cells with a quarter and a half of the channels
    precede the first stage. The auxiliary head of TensorFlow's training is left out, as in timm.

    Attributes:
        stage_sizes: normal cells of each stage (N in the paper).
        width: channels of each state of a cell of the first stage; each later stage has twice as
            many. The last map has 6 times those of its stage.
        stem_width: channels of the first convolution.
        skip_reduction_input: the first cell after a reduction cell reads as the previous map the
            one before the last of the stage, as in TensorFlow's large network; otherwise the last.
        count_padding: zeros around the map count in average pooling of stride 2, as in timm, and
            not in TensorFlow.
        dropout: rate before the head.
        drop_path: rate of dropping the output of an operation in the last cell; it grows linearly
            with the depth. ScheduledDropPath (App. A.5) also grows with the steps.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output)$",)
    aligned_features: ClassVar[bool] = False
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        "skip_reduction_input": Shapeless(),
        "count_padding": Shapeless(),
    }

    stage_sizes: StageSizes = (6, 6, 6)
    width: QuarteredWidth = 168
    stem_width: Width = 96
    skip_reduction_input: bool = True
    count_padding: bool = True
    dropout: Rate = 0.5
    drop_path: Rate = 0.0

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of the stem, of its first cell and of each stage; the last after a ReLU."""
        layers = self.layers(train, epsilon=1e-3, kernel_init=pytorch_kernel, padding="same")
        # Two cells of the stem, and one between two stages.
        number = 1 + sum(self.stage_sizes) + len(self.stage_sizes)
        cell = cell_maker(layers, number, self.drop_path, count_padding=self.count_padding)
        widths = self.stem_width, self.width
        stem, previous, x = searched_stem(layers, cell, REDUCTION, widths, images)
        found = {"stem": stem, "stem_reduced": previous}
        for stage, size in enumerate(self.stage_sizes, start=1):
            width = self.width * 2 ** (stage - 1)
            for i in range(1, size + 1):
                name, place = f"stage{stage}_cell{i}", "reduce" if i == 1 else "project"
                x, previous = cell(name, NORMAL, width, previous=place)(x, previous), x
            found[f"stage{stage}"] = x
            if stage < len(self.stage_sizes):
                reduction = cell(f"stage{stage}_transition", REDUCTION, 2 * width, strides=2)
                reduced = reduction(x, previous)
                x, previous = reduced, previous if self.skip_reduction_input else x
        return {**found, f"stage{len(self.stage_sizes)}": layers.activate(x)}


_PAPER: dict[str, Any] = {
    "paper": "Zoph et al. 2018, arXiv:1707.07012",
    "year": 2018,
    "interpolation": "bicubic",
    **SYMMETRIC,
}
MODELS.register("nasnet_large", image_size=331, **_PAPER)(NASNet)
# N = 4 and 1056 channels of the last map, as in TensorFlow and in Cadene's pretrainedmodels.
MODELS.register("nasnet_mobile", image_size=224, **_PAPER)(
    functools.partial(
        NASNet,
        stage_sizes=(4, 4, 4),
        width=44,
        stem_width=32,
        skip_reduction_input=False,
        count_padding=False,
    )
)
