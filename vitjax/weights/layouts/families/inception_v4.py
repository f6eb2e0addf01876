"""Inception v4 of timm."""

from __future__ import annotations

import re
from typing import Any

from vitjax.models.inception_v4 import STEM, InceptionV4
from vitjax.weights.layouts.family import Family

_LAYER = re.compile(r"(\w+)/branch(\d)_conv(\d)([ab]?)/(conv|norm)")
_LEAF = {"conv": "conv", "norm": "bn"}


def _module(module: Any, block: str) -> int:
    """The place of a block in the sequence of all layers."""
    if block.startswith("stem"):
        return int(block[-1]) - 1 + 3 * ("mixed" in block)
    found = re.fullmatch(r"stage(\d)_(?:block(\d+)|transition)", block)
    assert found is not None
    before, sizes = int(found[1]) - 1, module.stage_sizes
    # Each stage but the last is followed by one layer.
    start = 3 + len(STEM) + sum(sizes[:before]) + before
    return start + (int(found[2]) - 1 if found[2] else sizes[before])


def _translate(module: Any, name: str) -> str:
    if name == "head":
        return "last_linear"
    if (found := re.fullmatch(r"(stem\d)/(conv|norm)", name)) is not None:
        return f"features.{_module(module, found[1])}.{_LEAF[found[2]]}"
    if (found := _LAYER.fullmatch(name)) is None:
        raise KeyError(name)
    block, branch, place, letter, leaf = found.groups()
    i, j = int(branch) - 1, int(place) - 1
    if block in ("stem_mixed1", "stem_mixed3"):
        inside = "conv"
    elif block.startswith("stage3") and branch in ("2", "3"):
        inside = f"branch{i}_{j}{letter}"
    elif branch == "1" and block not in ("stem_mixed2", "stage2_transition"):
        inside = "branch0"
    else:
        inside = f"branch{i}.{j}"
    return f"features.{_module(module, block)}.{inside}.{_LEAF[leaf]}"


LAYOUTS = (
    Family(
        project="timm",
        model=InceptionV4,
        source="timm.models.inception_v4",
        names={"inception_v4": "inception_v4"},
        translate=_translate,
        required=(r"features\.0\.conv\.weight", r"features\.21\.branch1_1a\.conv\.weight"),
    ).layout(),
)
