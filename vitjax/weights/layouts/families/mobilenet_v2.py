"""MobileNetV2 of timm and torchvision."""

from __future__ import annotations

import itertools

from vitjax.models.mobilenet_v2 import STAGES, MobileNetV2
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.inverted_residual import LAYER, REQUIRED, timm

_STARTS = (0, *itertools.accumulate(blocks for _, _, blocks, _ in STAGES))
_TORCHVISION = {
    "stem/conv": "features.0.0",
    "stem/norm": "features.0.1",
    "last/conv": "features.18.0",
    "last/norm": "features.18.1",
    "head": "classifier.1",
}


def _torchvision(module: MobileNetV2, name: str) -> str:
    if (found := LAYER.fullmatch(name)) is None:
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
        translate=timm,
        required=REQUIRED,
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
