"""Xception of timm."""

from __future__ import annotations

import itertools
import re
from typing import Any

from vitjax.models.xception import STAGES, Xception
from vitjax.weights.layouts.family import Family, renamed

_STARTS = (0, *itertools.accumulate(map(len, STAGES)))
_OTHERS = renamed(
    (r"stem(\d)/conv", r"conv\1"),
    (r"stem(\d)/norm", r"bn\1"),
    (r"stage4_exit2/depthwise", "conv3.conv1"),
    (r"stage4_exit2/pointwise", "conv3.pointwise"),
    (r"stage4_exit2/norm", "bn3"),
    (r"stage4_exit3/depthwise", "conv4.conv1"),
    (r"stage4_exit3/pointwise", "conv4.pointwise"),
    (r"stage4_exit3/norm", "bn4"),
    (r"head", "fc"),
)
_SHORTCUT = {"shortcut/conv": "skip", "shortcut/norm": "skipbn"}
_PARTS = {"depthwise": "conv1", "pointwise": "pointwise"}


def _translate(module: Any, name: str) -> str:
    found = re.fullmatch(r"stage(\d)_block(\d+)/(.+)", name)
    if found is None:
        return _OTHERS(module, name)
    block = _STARTS[int(found[1]) - 1] + int(found[2])
    if found[3] in _SHORTCUT:
        return f"block{block}.{_SHORTCUT[found[3]]}"
    conv, part = found[3].split("/")
    # In one sequence of ReLU, convolution and normalisation; the first block has no first ReLU.
    place = 3 * (int(conv.removeprefix("conv")) - 1) + (block > 1)
    if part == "norm":
        return f"block{block}.rep.{place + 1}"
    return f"block{block}.rep.{place}.{_PARTS[part]}"


LAYOUTS = (
    Family(
        project="timm",
        model=Xception,
        source="timm.models.xception",
        names={"xception": "legacy_xception"},
        translate=_translate,
        required=(r"conv3\.pointwise\.weight", r"block1\.rep\.0\.conv1\.weight"),
    ).layout(),
)
