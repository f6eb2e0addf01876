"""Inception v3 of timm and torchvision, whose names differ in the auxiliary head alone."""

from __future__ import annotations

import re
from typing import Any

from vitjax.models.inception_v3 import InceptionV3
from vitjax.weights.layouts.family import Family

_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
# Of each kind of block the module before the first one's letter, and the names of its branches; to
# one that ends with "_" the place is added.
_BLOCKS = {
    "stage1_block": ("5b", ("1x1", "5x5_", "3x3dbl_", "_pool")),
    "stage1_transition": ("6a", ("3x3", "3x3dbl_")),
    "stage2_block": ("6b", ("1x1", "7x7_", "7x7dbl_", "_pool")),
    "stage2_transition": ("7a", ("3x3_", "7x7x3_")),
    "stage3_block": ("7b", ("1x1", "3x3_", "3x3dbl_", "_pool")),
}
_LAYER = re.compile(r"(stage\d_[a-z]+)(\d?)/branch(\d)_conv(\w+)/(conv|norm)")
_LEAF = {"conv": "conv", "norm": "bn"}


def _translate(module: Any, name: str) -> str:
    if (found := _LAYER.fullmatch(name)) is not None:
        first, branches = _BLOCKS[found[1]]
        stage, letter = first[0], chr(ord(first[1]) + int(found[2] or 1) - 1)
        branch = branches[int(found[3]) - 1]
        place = found[4] if branch.endswith("_") else ""
        return f"Mixed_{stage}{letter}.branch{branch}{place}.{_LEAF[found[5]]}"
    if (found := re.fullmatch(r"stem(\d)/(conv|norm)", name)) is not None:
        return f"Conv2d_{_STEM[int(found[1]) - 1]}.{_LEAF[found[2]]}"
    if (found := re.fullmatch(r"auxiliary_conv(\d)/(conv|norm)", name)) is not None:
        return f"AuxLogits.conv{int(found[1]) - 1}.{_LEAF[found[2]]}"
    return {"head": "fc", "auxiliary_head": "AuxLogits.fc"}[name]


_REQUIRED = (r"Conv2d_1a_3x3\.conv\.weight", r"Mixed_7c\.branch1x1\.conv\.weight")
LAYOUTS = (
    Family(
        project="timm",
        model=InceptionV3,
        source="timm.models.inception_v3",
        names={"inception_v3": "inception_v3"},
        translate=_translate,
        required=_REQUIRED,
        forbidden={r"AuxLogits\.": "the auxiliary head of torchvision's files"},
        variants=({"auxiliary": False},),
    ).layout(),
    Family(
        project="torchvision",
        model=InceptionV3,
        source="torchvision.models.inception",
        names={"inception_v3": "inception_v3"},
        translate=_translate,
        required=(*_REQUIRED, r"AuxLogits\.conv0\.conv\.weight"),
    ).layout(),
)
