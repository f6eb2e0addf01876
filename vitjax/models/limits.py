"""The largest sizes that the fields of models accept, far beyond any published network.

A size beyond its limit is a slip, or comes from a file that claims it, and is refused before
anything is built. The environment variable VITJAX_MODEL_LIMITS=off removes all limits.

Each limit is at least about ten times the largest size in the literature, which is named here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from vitjax.core.constraints import Bounds, Constraint, Length
from vitjax.core.machine import OVERRIDE, limited


@dataclasses.dataclass(frozen=True)
class Limit(Constraint):
    """The largest number, or the largest number of items of a list, unless limits are off.

    Attributes:
        most: the number.
    """

    most: int

    @property
    def words(self) -> str:
        """For example "and at most 10,000"."""
        return f"and at most {self.most:,}"

    def words_for(self, value: Any) -> str:
        """The limit, and how to remove it."""
        shown = f"at most {self.most:,}"
        return f"{f'a list of {shown} items' if _is_list(value) else shown} ({OVERRIDE})"

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is within the limit."""
        return not limited() or (len(value) if _is_list(value) else value) <= self.most


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence)


# Blocks of one kind. Convolutional networks of 10,000 layers: Xiao et al. 2018, arXiv:1806.05393.
Depth = Annotated[int, Bounds(at_least=1), Limit(10_000)]
# Channels, and the dense layers in MLPs: 73,728 in PaLM (arXiv:2204.02311, Table 1).
Width = Annotated[int, Bounds(at_least=1), Limit(2**20)]
QuarteredWidth = Annotated[int, Bounds(at_least=4), Limit(2**20)]  # of which a stem has a quarter
OptionalWidth = Annotated[int, Bounds(at_least=0), Limit(2**20)]  # 0 for none
# Attention heads: 128 in Llama 3.1 405B (arXiv:2407.21783, Table 3).
Heads = Annotated[int, Bounds(at_least=1), Limit(4_096)]
# Outputs of the head; 0 for none. 10 million classes of faces: Partial FC (arXiv:2010.05222).
Classes = Annotated[int, Bounds(at_least=0), Limit(10**8)]
# Sides of patches, kernels and blocks of pixels: 64 in few ViTs.
Pixels = Annotated[int, Bounds(at_least=1), Limit(1_024)]
# Further tokens: 16 registers, and some hundreds of prompts.
Tokens = Annotated[int, Bounds(at_least=0), Limit(10_000)]
# Factors between the widths of two layers: 10 in wide ResNets.
Factor = Annotated[int, Bounds(at_least=1), Limit(128)]
# Groups of a normalisation, at most one per channel.
Groups = Width
# Halvings of the image, each with a stage or a level: 8 in the U-Net of pix2pix, and no more than
# 12 of 4096 pixels.
Halvings = Annotated[int, Bounds(at_least=1), Limit(12)]
StageSizes = Annotated[Sequence[Depth], Length(), Limit(12)]
StageWidths = Annotated[Sequence[Width], Length(), Limit(12)]
# Layers of a plain network, each with a width of its own.
LayerWidths = Annotated[Sequence[Width], Length(), Limit(1_000)]
