"""Inception v3 of timm and torchvision."""

import re
import sys
from functools import partial
from unittest import mock

import timm
import torchvision
from timm.layers import ConvNormAct
from timm.models.inception_v3 import InceptionV3
from torch import nn
from torchvision.models.inception import (
    BasicConv2d,
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from scripts.parity.family import Case, Member

_FACTOR = 16
_KINDS = (InceptionA, InceptionB, InceptionC, InceptionD, InceptionE)


def _narrow(block: type[nn.Module], inputs: int, outputs: int, **arguments: object) -> nn.Module:
    inputs = inputs if inputs == 3 else inputs // _FACTOR
    return block(inputs, outputs // _FACTOR, **arguments)


def _auxiliary(inputs: int, classes: int) -> nn.Module:
    head = InceptionAux(inputs, classes, partial(_narrow, BasicConv2d))
    head.fc = nn.Linear(768 // _FACTOR, classes)
    return head


def _torchvision() -> nn.Module:
    block = partial(_narrow, BasicConv2d)
    kinds = [partial(kind, conv_block=block) for kind in _KINDS]
    model = Inception3(5, inception_blocks=[block, *kinds, _auxiliary], init_weights=False)
    model.fc = nn.Linear(2048 // _FACTOR, 5)
    return model


def _timm() -> nn.Module:
    module = sys.modules[InceptionV3.__module__]
    with mock.patch.object(module, "ConvNormAct", partial(_narrow, ConvNormAct)):
        model = InceptionV3(5)
    model.fc = nn.Linear(2048 // _FACTOR, 5)
    return model


def _output(found: re.Match[str]) -> str:
    name, letters = found[0][-2:], {"5": "bcd", "6": "bcde", "7": "bc"}
    if name in ("6a", "7a"):
        return f"stage{int(name[0]) - 5}_transition/output"
    return f"stage{int(name[0]) - 4}_block{letters[name[0]].index(name[1]) + 1}/output"


MEMBERS = [
    Member(
        "inception_v3",
        "timm",
        partial(timm.create_model, "inception_v3"),
        {"auxiliary": False},
    ),
    Member(
        "inception_v3",
        "torchvision",
        partial(torchvision.models.inception_v3, init_weights=False),
    ),
]
_FIELDS = {"num_classes": 5, "width_factor": 1 / _FACTOR}
_WATCHED = {"Conv2d_2b_3x3": "stem3", "Conv2d_4a_3x3": "stem5", r"Mixed_\d\w": _output}
CASES = {
    "inception_v3_timm": Case(
        "inception_v3",
        "timm",
        _timm,
        {**_FIELDS, "auxiliary": False},
        (2, 3, 107, 140),
        _WATCHED,
    ),
    "inception_v3_torchvision": Case(
        "inception_v3",
        "torchvision",
        _torchvision,
        _FIELDS,
        (2, 3, 299, 315),
        _WATCHED,
        train=True,
        outputs=("logits", "auxiliary"),
    ),
}
