"""PNASNet of timm."""

import sys
from functools import partial
from typing import Any
from unittest import mock

import timm
import torch
from timm.models.pnasnet import Cell, CellStem0, ConvNormAct, PNASNet5Large
from torch import nn

from scripts.parity.family import Case, Member

_FACTOR = 27


def _narrow(cell: type[nn.Module]) -> Any:
    """The class ``cell`` with fewer channels."""

    def made(**arguments: Any) -> nn.Module:
        fewer = {n: x // _FACTOR if "chs" in n else x for n, x in arguments.items()}
        return cell(**fewer)

    return made


def _narrow_stem(inputs: int, outputs: int, **arguments: Any) -> nn.Module:
    return ConvNormAct(inputs, outputs // _FACTOR, **arguments)


class _Small(PNASNet5Large):
    """The stem, two cells, a cell with strides and one that follows it."""

    def __init__(self) -> None:
        narrow = {"Cell": _narrow(Cell), "CellStem0": _narrow(CellStem0)}
        with mock.patch.multiple(
            sys.modules[PNASNet5Large.__module__], **narrow, ConvNormAct=_narrow_stem
        ):
            super().__init__(5, pad_type="same")
        self.cell_2, self.cell_3 = self.cell_4, self.cell_5
        for i in range(4, 12):
            delattr(self, f"cell_{i}")
        self.last_linear = nn.Linear(2160 // _FACTOR, 5)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        previous = self.conv_0(x)
        x = self.cell_stem_0(previous)
        for cell in (self.cell_stem_1, self.cell_0, self.cell_1, self.cell_2, self.cell_3):
            previous, x = x, cell(previous, x)
        return self.act(x)


MEMBERS = [Member("pnasnet5_large", "timm", partial(timm.create_model, "pnasnet5large"))]
CASES = {
    "pnasnet": Case(
        "pnasnet5_large",
        "timm",
        _Small,
        {
            "stage_sizes": (2, 2),
            "width": 216 // _FACTOR,
            "stem_width": 96 // _FACTOR,
            "num_classes": 5,
        },
        # Odd and even maps, with padding of both kinds.
        (2, 3, 64, 78),
        watched={
            r"conv_0": "stem",
            r"cell_stem_(\d)": lambda m: f"stem_cell{int(m[1]) + 1}/output",
            r"cell_(\d)": lambda m: f"stage{int(m[1]) // 2 + 1}_cell{int(m[1]) % 2 + 1}/output",
            r"act": "stage2",
        },
    ),
}
