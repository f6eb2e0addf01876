"""NASNet of timm, and of Cadene's pretrainedmodels.

Wants pretrainedmodels 0.7.4 as well.
"""

import re
from functools import partial
from typing import Any

import timm
import torch
from pretrainedmodels.models.nasnet_mobile import (  # type: ignore[import-not-found]
    NASNetAMobile,
)
from timm.models.nasnet import NASNetALarge
from torch import nn

from scripts.parity.family import Case, Member

_WIDTH, _STEM = 8, 6
# In the small networks: two normal cells, a reduction cell, and one normal cell.
_CELLS = ("cell_0", "cell_1", "cell_6")


def _without_others(model: Any) -> None:
    """Leaves the stem and the small network's cells, and gives it a head."""
    for name, _ in list(model.named_children()):
        if re.match(r"(reduction_)?cell_\d", name) and name not in (*_CELLS, "reduction_cell_0"):
            delattr(model, name)
    model.last_linear = nn.Linear(12 * _WIDTH, 5)


class _Large(NASNetALarge):
    def __init__(self) -> None:
        super().__init__(stem_size=_STEM, num_features=24 * _WIDTH)
        _without_others(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv0(x)
        first = self.cell_stem_0(x)
        second = self.cell_stem_1(x, first)
        x = self.cell_0(second, first)
        y = self.cell_1(x, second)
        return self.act(self.cell_6(self.reduction_cell_0(y, x), x))


class _Mobile(NASNetAMobile):
    def __init__(self) -> None:
        super().__init__(5, _STEM, 24 * _WIDTH)
        _without_others(self)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)

    def features(self, input: torch.Tensor) -> torch.Tensor:
        x = self.conv0(input)
        first = self.cell_stem_0(x)
        second = self.cell_stem_1(x, first)
        x = self.cell_0(second, first)
        y = self.cell_1(x, second)
        return self.cell_6(self.reduction_cell_0(y, x), y)


MEMBERS = [
    Member("nasnet_large", "timm", partial(timm.create_model, "nasnetalarge")),
    Member("nasnet_mobile", "pretrainedmodels", partial(NASNetAMobile, 1000)),
]
_FIELDS = {"stage_sizes": (2, 1), "width": _WIDTH, "stem_width": _STEM, "num_classes": 5}
_WATCHED = {
    r"conv0": "stem",
    r"cell_stem_(\d)": lambda m: f"stem_cell{int(m[1]) + 1}/output",
    r"cell_([01])": lambda m: f"stage1_cell{int(m[1]) + 1}/output",
    r"reduction_cell_0": "stage1_transition/output",
    r"cell_6": "stage2_cell1/output",
    r"act|relu": "stage2",
}
CASES = {
    # Odd and even maps, with padding of both kinds.
    "nasnet_large": Case("nasnet_large", "timm", _Large, _FIELDS, (2, 3, 64, 78), watched=_WATCHED),
    # Its code has TensorFlow's padding at some sizes alone, such as 224 and 64.
    "nasnet_mobile": Case(
        "nasnet_mobile", "pretrainedmodels", _Mobile, _FIELDS, (2, 3, 64, 64), watched=_WATCHED
    ),
}
