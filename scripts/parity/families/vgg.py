"""VGG of timm and torchvision."""

from functools import partial

import timm
import torchvision
from timm.layers import ClassifierHead
from timm.models import vgg
from torch import nn

from scripts.parity.family import Case, Member

_NAMES = [f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
MEMBERS = [
    *(Member(name, "timm", partial(timm.create_model, name)) for name in _NAMES),
    *(Member(name, "torchvision", getattr(torchvision.models, name)) for name in _NAMES),
]
_NARROW = [4, "M", 8, 8, "M", 16, "M", 32, "M", 32, "M"]


def _timm() -> nn.Module:
    model = vgg.VGG(_NARROW, norm_layer=nn.BatchNorm2d)
    model.pre_logits = vgg.ConvMlp(32, 24, 7)
    model.head = ClassifierHead(24, 5)
    return model


def _torchvision() -> nn.Module:
    model = torchvision.models.VGG(torchvision.models.vgg.make_layers(_NARROW))
    sizes = {0: (32 * 49, 24), 3: (24, 24), 6: (24, 5)}
    for i, size in sizes.items():
        model.classifier[i] = nn.Linear(*size)
    return model


_FIELDS = {"stage_sizes": [1, 2, 1, 1, 1], "width": 4, "hidden": 24, "num_classes": 5}
_WATCHED = {"features": "last"}
CASES = {
    "vgg_timm": Case("vgg11_bn", "timm", _timm, _FIELDS, (2, 3, 64, 96), _WATCHED),
    "vgg_torchvision": Case(
        "vgg11", "torchvision", _torchvision, _FIELDS, (2, 3, 64, 96), _WATCHED
    ),
}
