"""DenseNet of timm and torchvision, and of torchvision's code for CIFAR."""

from functools import partial

import timm
import torchvision
from torch import nn

from scripts.parity.family import Case, Member


def _cifar(depth: int, growth: int) -> nn.Module:
    """DenseNet-BC for CIFAR: another stem, and nothing else."""
    blocks = ((depth - 4) // 6,) * 3
    model = torchvision.models.DenseNet(growth, blocks, 2 * growth, num_classes=10)
    model.features.conv0 = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
    model.features.norm0 = nn.Identity()
    return model


_NAMES = [f"densenet{depth}" for depth in (121, 161, 169, 201)]
MEMBERS = [
    *(Member(name, "timm", partial(timm.create_model, name)) for name in _NAMES),
    *(Member(name, "torchvision", getattr(torchvision.models, name)) for name in _NAMES),
    *(
        Member(f"densenet_bc_{depth}_{growth}", "", partial(_cifar, depth, growth))
        for depth, growth in ((100, 12), (250, 24))
    ),
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
