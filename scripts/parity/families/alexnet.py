"""AlexNet of torchvision, and of the paper and ZFNet in modules of their own."""

from functools import partial
from typing import Any

import torchvision
from torch import nn

from scripts.parity.family import Case, Member


def _published(convs: Any, normalised_first: bool) -> nn.Module:
    """Convolutions (in, out, kernel, stride, padding, groups, pooling's padding or None)."""
    layers: list[nn.Module] = []
    for i, (before, after, kernel, stride, padding, groups, pooling) in enumerate(convs):
        conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups)
        layers += [conv, nn.ReLU()]
        if pooling is not None:
            pool = nn.MaxPool2d(3, 2, pooling)
            # PyTorch divides alpha by the number of channels.
            norms = [nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)] if i < 2 else []
            layers += [*norms, pool] if normalised_first else [pool, *norms]
    dense = [nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(4096, 1000))


PAPER = (
    (3, 96, 11, 4, 0, 1, 0),
    (96, 256, 5, 1, 2, 2, 0),
    (256, 384, 3, 1, 1, 1, None),
    (384, 384, 3, 1, 1, 2, None),
    (384, 256, 3, 1, 1, 2, 0),
)
ZFNET = (
    (3, 96, 7, 2, 1, 1, 1),
    (96, 256, 5, 2, 0, 1, 1),
    (256, 384, 3, 1, 1, 1, None),
    (384, 384, 3, 1, 1, 1, None),
    (384, 256, 3, 1, 1, 1, 0),
)
MEMBERS = [
    Member("alexnet", "torchvision", torchvision.models.alexnet),
    Member("alexnet_paper", "", partial(_published, PAPER, True)),
    Member("zfnet", "", partial(_published, ZFNET, False)),
]


def _narrow() -> nn.Module:
    model = torchvision.models.alexnet(num_classes=5)
    for i, size in {1: (9216, 8), 4: (8, 8), 6: (8, 5)}.items():
        model.classifier[i] = nn.Linear(*size)
    return model


CASES = {
    "alexnet": Case(
        "alexnet",
        "torchvision",
        _narrow,
        {"hidden": 8, "num_classes": 5},
        (2, 3, 67, 96),
        {r"features\.1": "stage1", r"features\.4": "stage2", r"features": "last"},
    ),
}
