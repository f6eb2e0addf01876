"""Inception-ResNet v2 of timm."""

from __future__ import annotations

import re
from typing import Any

from vitjax.models.inception_resnet_v2 import InceptionResNetV2
from vitjax.weights.layouts.family import Family

_STEM = {"1": "1a", "2": "2a", "3": "2b", "4": "3b", "5": "4a"}
_MODULES = {
    "stem_mixed": "mixed_5b",
    "stage1_transition": "mixed_6a",
    "stage2_transition": "mixed_7a",
    "last": "conv2d_7b",
}
_LEAF = {"conv": "conv", "norm": "bn"}


def _module(module: Any, block: str) -> str:
    if (found := re.fullmatch(r"stage(\d)_block(\d+)", block)) is None:
        return _MODULES[block]
    stage, i = int(found[1]), int(found[2])
    if stage == 3 and i == module.stage_sizes[2]:
        return "block8"
    return f"{('repeat', 'repeat_1', 'repeat_2')[stage - 1]}.{i - 1}"


def _translate(module: Any, name: str) -> str:
    if name == "head":
        return "classif"
    block, *rest, last = name.split("/")
    if (found := re.fullmatch(r"stem(\d)", block)) is not None:
        return f"conv2d_{_STEM[found[1]]}.{_LEAF[last]}"
    theirs = _module(module, block)
    if last == "project":
        return f"{theirs}.conv2d"
    if not rest:
        return f"{theirs}.{_LEAF[last]}"
    found = re.fullmatch(r"branch(\d)_conv(\d)", rest[-1])
    assert found is not None
    single = found[1] == "1" and block != "stage2_transition"
    inside = "branch0" if single else f"branch{int(found[1]) - 1}.{int(found[2]) - 1}"
    return f"{theirs}.{inside}.{_LEAF[last]}"


LAYOUTS = (
    Family(
        project="timm",
        model=InceptionResNetV2,
        source="timm.models.inception_resnet_v2",
        names={"inception_resnet_v2": "inception_resnet_v2"},
        translate=_translate,
        required=(r"conv2d_1a\.conv\.weight", r"repeat\.0\.conv2d\.weight"),
    ).layout(),
)
