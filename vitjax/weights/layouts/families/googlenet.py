"""GoogLeNet of torchvision."""

from __future__ import annotations

import dataclasses
import functools
import re

from vitjax.models.convnet import ConvNet
from vitjax.models.googlenet import SIDE, GoogLeNet
from vitjax.weights.layouts.family import Family, flattened, renamed
from vitjax.weights.layouts.target import Construction


def _layer(found: re.Match[str]) -> str:
    stage, block, branch, place, layer = found.groups()
    inside = "" if branch == "1" else f".{int(place) - 1}"
    last = {"conv": "conv", "norm": "bn"}[layer]
    return f"inception{int(stage) + 2}{'abcde'[int(block) - 1]}.branch{branch}{inside}.{last}"


def _construct(made: Construction, module: ConvNet) -> Construction:
    assert isinstance(module, GoogLeNet)
    arguments = {**made.arguments, "aux_logits": module.auxiliary, "init_weights": False}
    return dataclasses.replace(made, arguments=arguments)


LAYOUTS = (
    Family(
        project="torchvision",
        model=GoogLeNet,
        source="torchvision.models.googlenet",
        names={"googlenet": "googlenet"},
        translate=renamed(
            (r"stem(\d)/conv", r"conv\1.conv"),
            (r"stem(\d)/norm", r"conv\1.bn"),
            (r"stage(\d)_block(\d)/branch(\d)_conv(\d)/(conv|norm)", _layer),
            (r"auxiliary(\d)_conv/conv", r"aux\1.conv.conv"),
            (r"auxiliary(\d)_conv/norm", r"aux\1.conv.bn"),
            (r"auxiliary(\d)_fc", r"aux\1.fc1"),
            (r"auxiliary(\d)_head", r"aux\1.fc2"),
            ("head", "fc"),
        ),
        required=(r"conv1\.conv\.weight", r"inception3a\.branch1\.conv\.weight"),
        special={f"auxiliary{i}_fc": functools.partial(flattened, side=SIDE) for i in (1, 2)},
        variants=({"auxiliary": False}, {"auxiliary": True}),
        construct=_construct,
    ).layout(),
)
