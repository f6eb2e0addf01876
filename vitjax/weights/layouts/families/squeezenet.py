"""SqueezeNet of torchvision."""

from __future__ import annotations

import re

from vitjax.models.squeezenet import SqueezeNet
from vitjax.weights.layouts.family import Family


def _translate(module: SqueezeNet, name: str) -> str:
    top: dict[str, str] = {"stem_conv": "features.0", "head": "classifier.1"}
    found = re.fullmatch(r"stage(\d)_fire(\d+)/(\w+)", name)
    if found is None:
        return top[name]
    # In one sequence after the stem and its ReLU, in which poolings count.
    stage, i = int(found[1]), int(found[2])
    before = sum(module.stage_sizes[: stage - 1])
    return f"features.{2 + before + stage + i - 1}.{found[3]}"


LAYOUTS = (
    Family(
        project="torchvision",
        model=SqueezeNet,
        source="torchvision.models.squeezenet",
        names={name: name for name in ("squeezenet1_0", "squeezenet1_1")},
        translate=_translate,
        required=(r"features\.0\.weight", r"features\.3\.squeeze\.weight"),
    ).layout(),
)
