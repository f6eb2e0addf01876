"""Inception v4 of timm."""

import re
import sys
from functools import partial
from unittest import mock

import timm
from timm.layers import ConvNormAct
from timm.models.inception_v4 import InceptionV4
from torch import nn

from scripts.parity.family import Case, Member

_FACTOR = 16


def _narrow(inputs: int, outputs: int, **arguments: object) -> nn.Module:
    inputs = inputs if inputs == 3 else inputs // _FACTOR
    return ConvNormAct(inputs, outputs // _FACTOR, **arguments)


def _small() -> nn.Module:
    with mock.patch.object(sys.modules[InceptionV4.__module__], "ConvNormAct", _narrow):
        model = InceptionV4(5)
    model.last_linear = nn.Linear(1536 // _FACTOR, 5)
    return model


def _output(found: re.Match[str]) -> str:
    i = int(found[1])
    if i < 6:
        return f"stem_mixed{i - 2}/output" if i > 2 else f"stem{i + 1}"
    stage = 1 if i < 11 else 2 if i < 19 else 3
    block = i - (6, 11, 19)[stage - 1] + 1
    return (
        f"stage{stage}_transition/output" if i in (10, 18) else f"stage{stage}_block{block}/output"
    )


MEMBERS = [Member("inception_v4", "timm", partial(timm.create_model, "inception_v4"))]
CASES = {
    "inception_v4": Case(
        "inception_v4",
        "timm",
        _small,
        {"num_classes": 5, "width_factor": 1 / _FACTOR},
        (2, 3, 107, 140),
        {r"features\.(\d\d|[2-9])": _output},
    )
}
