"""Xception of timm."""

from functools import partial

import timm

from scripts.parity.family import Case, Member

MEMBERS = [Member("xception", "timm", partial(timm.create_model, "legacy_xception"))]
CASES = {
    "xception": Case(
        "xception",
        "timm",
        partial(timm.create_model, "legacy_xception", num_classes=5),
        {"num_classes": 5},
        (2, 3, 64, 80),
        {
            r"act2": "stem",
            r"block1": "stage1_block1/output",
            r"block(3|5|11)": lambda m: f"stage3_block{int(m[1]) - 2}/output",
            r"block12": "stage4_block1/output",
            r"act4": "stage4",
        },
    ),
}
