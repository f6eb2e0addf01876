"""MobileNetV2 of timm and torchvision."""

from __future__ import annotations

import itertools
import re

from vitjax.models.mobilenet_v2 import STAGES, MobileNetV2
from vitjax.weights.layouts.family import Family

_STARTS = (0, *itertools.accumulate(blocks for _, _, blocks, _ in STAGES))
_LAYER = re.compile(r"stage(\d+)_block(\d+)/(expand|depthwise|project)/(conv|norm)")
_TIMM = {
    "stem/conv": "conv_stem",
    "stem/norm": "bn1",
    "last/conv": "conv_head",
    "last/norm": "bn2",
    "head": "classifier",
}
_TORCHVISION = {
    "stem/conv": "features.0.0",
    "stem/norm": "features.0.1",
    "last/conv": "features.18.0",
    "last/norm": "features.18.1",
    "head": "classifier.1",
}


def _timm(module: MobileNetV2, name: str) -> str:
    if (found := _LAYER.fullmatch(name)) is None:
        return _TIMM[name]
    stage, part = int(found[1]), found[3]
    # The first stage has no expansion, and layers of another name.
    order = ["depthwise", "project"] if stage == 1 else ["expand", "depthwise", "project"]
    convs = {"expand": "pw", "depthwise": "dw", "project": "pw" if stage == 1 else "pwl"}
    layer = f"conv_{convs[part]}" if found[4] == "conv" else f"bn{order.index(part) + 1}"
    return f"blocks.{stage - 1}.{int(found[2]) - 1}.{layer}"


def _torchvision(module: MobileNetV2, name: str) -> str:
    if (found := _LAYER.fullmatch(name)) is None:
        return _TORCHVISION[name]
    stage, part, normalised = int(found[1]), found[3], found[4] == "norm"
    order = ["depthwise", "project"] if stage == 1 else ["expand", "depthwise", "project"]
    place = order.index(part)
    # The last convolution and its normalisation are not nested.
    layer = f"{place + normalised}" if part == "project" else f"{place}.{int(normalised)}"
    return f"features.{_STARTS[stage - 1] + int(found[2])}.conv.{layer}"


LAYOUTS = (
    Family(
        project="timm",
        model=MobileNetV2,
        source="timm.models.efficientnet",
        names={
            "mobilenet_v2": "mobilenetv2_100",
            "mobilenet_v2_050": "mobilenetv2_050",
            "mobilenet_v2_140": "mobilenetv2_140",
        },
        translate=_timm,
        required=(
            r"conv_stem\.weight",
            r"blocks\.0\.0\.conv_dw\.weight",
            r"blocks\.6\.0\.conv_pwl\.weight",
        ),
        forbidden={r"\.se\.": "squeeze-and-excitation"},
    ).layout(),
    Family(
        project="torchvision",
        model=MobileNetV2,
        source="torchvision.models.mobilenetv2",
        names={"mobilenet_v2": "mobilenet_v2"},
        translate=_torchvision,
        required=(r"features\.0\.0\.weight", r"features\.1\.conv\.0\.0\.weight"),
    ).layout(),
)
