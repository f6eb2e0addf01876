"""GoogLeNet of torchvision."""

from functools import partial

import torchvision
from torch import nn
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux

from scripts.parity.family import Case, Member

_FACTOR = 8


def _narrow(inputs: int, outputs: int, **arguments: object) -> nn.Module:
    inputs = inputs if inputs == 3 else inputs // _FACTOR
    return BasicConv2d(inputs, outputs // _FACTOR, **arguments)


def _auxiliary(inputs: int, classes: int, dropout: float) -> nn.Module:
    head = InceptionAux(inputs, classes, _narrow, dropout)
    head.fc1, head.fc2 = (
        nn.Linear(2048 // _FACTOR, 1024 // _FACTOR),
        nn.Linear(1024 // _FACTOR, classes),
    )
    return head


def _small(auxiliary: bool) -> nn.Module:
    blocks = [_narrow, partial(Inception, conv_block=_narrow), _auxiliary]
    model = torchvision.models.GoogLeNet(
        num_classes=5, aux_logits=auxiliary, init_weights=False, blocks=blocks
    )
    model.fc = nn.Linear(1024 // _FACTOR, 5)
    return model


def _whole(auxiliary: bool) -> nn.Module:
    return torchvision.models.googlenet(aux_logits=auxiliary, init_weights=False)


MEMBERS = [
    Member("googlenet", "torchvision", partial(_whole, True)),
    Member("googlenet", "torchvision", partial(_whole, False), {"auxiliary": False}),
]
_FIELDS = {"num_classes": 5, "width_factor": 1 / _FACTOR}
_WATCHED = {
    "conv1": "stem1",
    "conv3": "stem3",
    r"inception(\d)([a-e])": lambda m: (
        f"stage{int(m[1]) - 2}_block{'abcde'.index(m[2]) + 1}/output"
    ),
}
CASES = {
    "googlenet": Case(
        "googlenet",
        "torchvision",
        partial(_small, False),
        {**_FIELDS, "auxiliary": False},
        (2, 3, 70, 101),
        _WATCHED,
    ),
    "googlenet_train": Case(
        "googlenet",
        "torchvision",
        partial(_small, True),
        _FIELDS,
        (3, 3, 96, 112),
        _WATCHED,
        train=True,
        outputs=("logits", "auxiliary2", "auxiliary1"),
    ),
}
