"""MobileNet of timm."""

from functools import partial

import timm

from scripts.parity.family import Case, Member

MEMBERS = [Member("mobilenet_v1", "timm", partial(timm.create_model, "mobilenetv1_100"))]
CASES = {
    "mobilenet_v1": Case(
        "mobilenet_v1",
        "timm",
        partial(timm.create_model, "mobilenetv1_100", num_classes=5),
        {"num_classes": 5},
        (1, 3, 64, 96),
        {r"blocks\.(\d)\.(\d)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output"},
    ),
}
