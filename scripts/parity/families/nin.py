"""Network in Network in sequences of PyTorch's layers, which have vitjax's names."""

from collections import OrderedDict
from functools import partial

from torch import nn

from scripts.parity.family import Case, Member


def _sequence(stages: list[list[nn.Module]]) -> nn.Module:
    """The layers, of which the convolutions of each stage are numbered and the last is the head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, stage in enumerate(stages, start=1):
        convolutions = 0
        for module in stage:
            if isinstance(module, nn.Conv2d):
                convolutions += 1
                last = number == len(stages) and convolutions == 3
                name = "head" if last else f"stage{number}_conv{convolutions}"
                layers[name] = module
                layers[f"{name}_relu"] = nn.ReLU()
            else:
                layers[f"stage{number}_{len(layers)}"] = module
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flat"] = nn.Flatten()
    return nn.Sequential(layers)


def cifar(widths: tuple[int, ...], classes: int = 10) -> nn.Module:
    """That of CIFAR-10."""
    a, b, c, d, e, f, g, h = widths
    return _sequence(
        [
            [nn.Conv2d(3, a, 5, padding=2), nn.Conv2d(a, b, 1), nn.Conv2d(b, c, 1)],
            [
                nn.MaxPool2d(3, 2, ceil_mode=True),
                nn.Dropout(0.5),
                nn.Conv2d(c, d, 5, padding=2),
                nn.Conv2d(d, e, 1),
                nn.Conv2d(e, f, 1),
            ],
            [
                # Pixels beyond the end do not count.
                nn.AvgPool2d(3, 2, ceil_mode=True),
                nn.Dropout(0.5),
                nn.Conv2d(f, g, 3, padding=1),
                nn.Conv2d(g, h, 1),
                nn.Conv2d(h, classes, 1),
            ],
        ]
    )


def imagenet(widths: tuple[int, ...], classes: int = 1000) -> nn.Module:
    """That of ImageNet."""
    a, b, c, d, e, f, g, h, i, j, k = widths
    pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    return _sequence(
        [
            [nn.Conv2d(3, a, 11, 4), nn.Conv2d(a, b, 1), nn.Conv2d(b, c, 1)],
            [pool(), nn.Conv2d(c, d, 5, padding=2), nn.Conv2d(d, e, 1), nn.Conv2d(e, f, 1)],
            [pool(), nn.Conv2d(f, g, 3, padding=1), nn.Conv2d(g, h, 1), nn.Conv2d(h, i, 1)],
            [
                pool(),
                nn.Dropout(0.5),
                nn.Conv2d(i, j, 3, padding=1),
                nn.Conv2d(j, k, 1),
                nn.Conv2d(k, classes, 1),
            ],
        ]
    )


CIFAR = (192, 160, 96, 192, 192, 192, 192, 192)
IMAGENET = (96, 96, 96, 256, 256, 256, 384, 384, 384, 1024, 1024)
MEMBERS = [
    Member("nin_cifar10", "", partial(cifar, CIFAR)),
    Member("nin_imagenet", "", partial(imagenet, IMAGENET)),
]
_FEW = (4, 5, 3, 6, 4, 5, 3, 4)
_SOME = (3, 4, 5, 3, 6, 4, 5, 3, 4, 6, 5)
CASES = {
    "nin_cifar10": Case(
        "nin_cifar10",
        "",
        partial(cifar, _FEW, 5),
        {"widths": _FEW, "num_classes": 5},
        # Even and odd sides, in which the last windows end beyond the map and with it.
        (2, 3, 16, 13),
        {r"stage1_conv3_relu": "stage1", r"stage2_conv3_relu": "stage2"},
    ),
    "nin_imagenet": Case(
        "nin_imagenet",
        "",
        partial(imagenet, _SOME, 5),
        {"widths": _SOME, "num_classes": 5},
        (2, 3, 67, 80),
        {r"stage3_conv3_relu": "stage3", r"stage4_conv2_relu": "stage4"},
    ),
}
