"""Inception-ResNet v2 of timm."""

import re
import sys
from functools import partial
from unittest import mock

import timm
from timm.layers import ConvNormAct
from timm.models.inception_resnet_v2 import InceptionResnetV2
from torch import nn

from scripts.parity.family import Case, Member

_FACTOR = 16
_SIZES = (2, 2, 3)


def _narrow(inputs: int, outputs: int, **arguments: object) -> nn.Module:
    inputs = inputs if inputs == 3 else inputs // _FACTOR
    return ConvNormAct(inputs, outputs // _FACTOR, **arguments)


def _small() -> nn.Module:
    module = sys.modules[InceptionResnetV2.__module__]
    with mock.patch.object(module, "ConvNormAct", _narrow):
        model = InceptionResnetV2(5)
    model.repeat, model.repeat_1 = model.repeat[: _SIZES[0]], model.repeat_1[: _SIZES[1]]
    model.repeat_2 = model.repeat_2[: _SIZES[2] - 1]
    for block in (*model.repeat, *model.repeat_1, *model.repeat_2, model.block8):
        conv = block.conv2d
        block.conv2d = nn.Conv2d(conv.in_channels // _FACTOR, conv.out_channels // _FACTOR, 1)
    model.classif = nn.Linear(1536 // _FACTOR, 5)
    return model


def _repeated(found: re.Match[str]) -> str:
    return f"stage{int(found[1] or 0) + 1}_block{int(found[2]) + 1}/output"


MEMBERS = [Member("inception_resnet_v2", "timm", partial(timm.create_model, "inception_resnet_v2"))]
CASES = {
    "inception_resnet_v2": Case(
        "inception_resnet_v2",
        "timm",
        _small,
        {"num_classes": 5, "width_factor": 1 / _FACTOR, "stage_sizes": _SIZES},
        (2, 3, 107, 140),
        {
            "conv2d_2b": "stem3",
            "conv2d_4a": "stem5",
            "mixed_5b": "stem_mixed/output",
            r"repeat(?:_(\d))?\.(\d)": _repeated,
            "mixed_6a": "stage1_transition/output",
            "mixed_7a": "stage2_transition/output",
            "block8": f"stage3_block{_SIZES[2]}/output",
            "conv2d_7b": "last",
        },
    )
}
