"""DenseNet of timm and torchvision, and of torchvision's code for CIFAR."""

from functools import partial

import timm
import torchvision

from scripts.parity.family import Case, Member

_NAMES = [f"densenet{depth}" for depth in (121, 161, 169, 201)]
MEMBERS = [
    *(Member(name, "timm", partial(timm.create_model, name)) for name in _NAMES),
    *(Member(name, "torchvision", getattr(torchvision.models, name)) for name in _NAMES),
]
CASES = {
    "densenet": Case(
        "densenet121",
        "timm",
        partial(timm.models.densenet.DenseNet, 8, (2, 3, 2, 1), num_classes=5),
        {"growth_rate": 8, "stage_sizes": [2, 3, 2, 1], "num_classes": 5},
        (2, 3, 64, 96),
        {
            r"features\.norm0": "stem",
            r"features\.denseblock([123])": r"stage\1",
            r"features\.norm5": "stage4",
        },
    ),
}
