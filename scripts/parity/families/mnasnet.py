"""MnasNet of torchvision and timm."""

from functools import partial

import timm
import torchvision
from timm.models import efficientnet
from torch import nn

from scripts.parity.family import Case, Member

# torchvision's asks for the version of a file, which plain dictionaries do not have.
torchvision.models.MNASNet._load_from_state_dict = nn.Module._load_from_state_dict
MEMBERS = [
    *(
        Member(name, "torchvision", getattr(torchvision.models, name))
        for name in ("mnasnet0_5", "mnasnet1_0")
    ),
    Member("mnasnet0_5", "timm", partial(timm.create_model, "mnasnet_050")),
    Member("mnasnet1_0", "timm", partial(timm.create_model, "mnasnet_100")),
]
CASES = {
    "mnasnet_timm": Case(
        "mnasnet0_5",
        "timm",
        partial(efficientnet._gen_mnasnet_b1, "mnasnet_050", 0.25, num_classes=5),
        {"width_factor": 0.25, "num_classes": 5},
        watched={
            r"blocks\.(\d)\.(\d)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output"
        },
    ),
    # At this width the first block keeps its shape, and has no shortcut.
    "mnasnet_torchvision": Case(
        "mnasnet0_5",
        "torchvision",
        partial(torchvision.models.MNASNet, 0.25, num_classes=5),
        {"width_factor": 0.25, "num_classes": 5},
        watched={
            r"layers\.7": "stage1_block1/output",
            r"layers\.(8|9|10|11|12|13)\.(\d)": lambda m: (
                f"stage{int(m[1]) - 6}_block{int(m[2]) + 1}/output"
            ),
        },
    ),
}
