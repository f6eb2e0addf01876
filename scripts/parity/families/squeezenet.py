"""SqueezeNet of torchvision."""

from functools import partial

import torchvision

from scripts.parity.family import Case, Member

_NAMES = ("squeezenet1_0", "squeezenet1_1")
MEMBERS = [Member(name, "torchvision", getattr(torchvision.models, name)) for name in _NAMES]
_LAST = {
    "squeezenet1_0": {r"features\.5": "stage1_fire3/output", r"features": "stage3"},
    "squeezenet1_1": {r"features\.7": "stage2_fire2/output", r"features": "stage3"},
}
CASES = {
    name: Case(
        name,
        "torchvision",
        partial(getattr(torchvision.models, name), num_classes=5),
        {"num_classes": 5},
        (2, 3, 64, 80),
        _LAST[name],
    )
    for name in _NAMES
}
