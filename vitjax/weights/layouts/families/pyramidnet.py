"""PyramidNet of the authors' PyTorch code."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from vitjax.models.pyramidnet import EXPANSION, PyramidNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.layout import Arrays
from vitjax.weights.layouts.target import Construction, Written, check_sides

PROJECT = "pyramidnet-pytorch"
# Of the others the last map has 8 pixels, over which the authors' code averages; here it has 7.
_IMAGENET = ("PyramidNet-101", "PyramidNet-200")
_TOP = {"stem_conv": "conv1", "stem_norm": "bn1", "last_norm": "bn_final", "head": "fc"}


def _translate(module: Any, name: str) -> str:
    del module
    found = re.fullmatch(r"stage(\d+)_block(\d+)/(conv|norm)(\d)", name)
    if found is None:
        return _TOP[name]
    layer = "conv" if found[3] == "conv" else "bn"
    return f"layer{found[1]}.{int(found[2]) - 1}.{layer}{found[4]}"


def _plausible(module: PyramidNet, arrays: Arrays) -> bool:
    """Whether a file has as many blocks and the last width: to trace a network takes seconds."""
    blocks = sum(name.endswith("conv1.weight") for name in arrays) - 1
    width = module.planes()[-1] * (EXPANSION if module.block == "bottleneck" else 1)
    last: tuple[int, ...] = arrays["bn_final.weight"].shape
    return blocks == sum(module.stage_sizes) and last == (width,)


def _call(name: str, written: Written) -> Construction:
    least, most = (193, 224) if name.startswith(_IMAGENET) else (29, 32)
    check_sides(PROJECT, "PyramidNet", written, least=least, most=most)
    if written.channels != 3:
        raise WeightsError(f"{PROJECT} has only images of 3 channels, not of {written.channels}")
    return Construction("PyramidNet", imports=["from PyramidNet import PyramidNet"])


def _sized(made: Construction, module: PyramidNet) -> Construction:
    bottleneck = module.block == "bottleneck"
    sized = {
        "dataset": "cifar10" if module.stem == "cifar" else "imagenet",
        "depth": 2 + (3 if bottleneck else 2) * sum(module.stage_sizes),
        "alpha": module.alpha,
        "bottleneck": bottleneck,
    }
    return dataclasses.replace(made, arguments={**made.arguments, **sized})


LAYOUTS = (
    Family(
        project=PROJECT,
        model=PyramidNet,
        source="dyhan0920/PyramidNet-PyTorch, PyramidNet.py",
        names={
            "pyramidnet110_a48": "PyramidNet-110, alpha=48",
            "pyramidnet110_a270": "PyramidNet-110, alpha=270",
            "pyramidnet272_a200": "PyramidNet-272, alpha=200",
            "pyramidnet101_a360": "PyramidNet-101, alpha=360",
            "pyramidnet200_a300": "PyramidNet-200, alpha=300",
        },
        translate=_translate,
        required=(r"bn_final\.weight", r"layer1\.0\.bn3\.weight"),
        plausible=_plausible,
        construct=_sized,
        call=_call,
    ).layout(),
)
