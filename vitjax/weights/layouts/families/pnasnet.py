"""PNASNet of timm."""

from __future__ import annotations

import re

from vitjax.models.pnasnet import PNASNet
from vitjax.weights.layouts.families.nasnet import in_cell, in_reduction
from vitjax.weights.layouts.family import Family

_TOP = {"stem/conv": "conv_0.conv", "stem/norm": "conv_0.bn", "head": "last_linear"}


def _translate(module: PNASNet, name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    found = re.fullmatch(r"(?:stem|stage(\d+))_cell(\d+)/(reduce_previous/)?(.+)", name)
    assert found is not None
    stage, i = found[1], int(found[2]) - 1
    before = sum(module.stage_sizes[: int(stage) - 1]) if stage else 0
    cell = f"cell_{before + i}" if stage else f"cell_stem_{i}"
    return f"{cell}." + (
        f"conv_prev_1x1.{in_reduction(found[4])}" if found[3] else in_cell(found[4])
    )


LAYOUTS = (
    Family(
        project="timm",
        model=PNASNet,
        source="timm.models.pnasnet",
        names={"pnasnet5_large": "pnasnet5large"},
        translate=_translate,
        required=(
            r"cell_stem_1\.conv_prev_1x1\.path_1\.conv\.weight",
            r"cell_11\.conv_1x1\.conv\.weight",
        ),
    ).layout(),
)
