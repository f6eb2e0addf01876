"""MobileNetV2 of timm and torchvision."""

from functools import partial

import timm
import torchvision

from scripts.parity.family import Case, Member

_TIMM = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v2_050": "mobilenetv2_050",
    "mobilenet_v2_140": "mobilenetv2_140",
}
MEMBERS = [
    *(Member(ours, "timm", partial(timm.create_model, name)) for ours, name in _TIMM.items()),
    Member("mobilenet_v2", "torchvision", torchvision.models.mobilenet_v2),
]
CASES = {
    "mobilenet_v2_timm": Case(
        "mobilenet_v2_050",
        "timm",
        partial(timm.create_model, "mobilenetv2_050", num_classes=5),
        {"num_classes": 5},
        watched={
            r"blocks\.(\d)\.(\d)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output",
        },
    ),
}
