"""NASNet of timm, and of Cadene's pretrainedmodels."""

from __future__ import annotations

import re
from typing import Any

from vitjax.models.nasnet import NASNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.target import Construction, Written, check_sides

# The numbers of cells in a stage of the large network, which the names of the smaller one keep.
_NUMBERS = 6
_PARTS = {"conv": "conv", "norm": "bn"}
_TOP = {"stem/conv": "conv0.conv", "stem/norm": "conv0.bn", "head": "last_linear"}


def in_cell(layer: str) -> str:
    """The name within a cell of one of its layers, other than those of a factorised reduction."""
    if (found := re.fullmatch(r"(project|project_previous)/(\w+)", layer)) is not None:
        name = "conv_1x1" if found[1] == "project" else "conv_prev_1x1"
        return f"{name}.{_PARTS[found[2]]}"
    found = re.fullmatch(r"pair(\d)_(\w+)/([a-z]+)(\d?)", layer)
    assert found is not None
    pair, kind, i = f"comb_iter_{int(found[1]) - 1}_{found[2]}", found[3], found[4]
    if not i:
        return f"{pair}.{_PARTS[kind]}"
    return f"{pair}." + (f"bn_sep_{i}" if kind == "norm" else f"separable_{i}.{kind}_conv2d")


def in_reduction(layer: str) -> str:
    """The name of a layer of a factorised reduction."""
    return "final_path_bn" if layer == "norm" else f"path_{layer[-1]}.conv"


def _cell(name: str) -> str:
    if (found := re.fullmatch(r"stem_cell(\d)", name)) is not None:
        return f"cell_stem_{int(found[1]) - 1}"
    found = re.fullmatch(r"stage(\d+)_(?:cell(\d+)|transition)", name)
    assert found is not None
    stage = int(found[1]) - 1
    return f"cell_{_NUMBERS * stage + int(found[2]) - 1}" if found[2] else f"reduction_cell_{stage}"


def _translate(module: Any, name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    cell, layer = name.split("/", 1)
    reduction = layer.removeprefix("reduce_previous/")
    return f"{_cell(cell)}.{in_cell(layer) if reduction == layer else in_reduction(reduction)}"


def _call(name: str, written: Written) -> Construction:
    if written.channels != 3:
        raise WeightsError(
            f"pretrainedmodels has only networks for images of 3 channels, not {written.channels}"
        )
    # Its last pooling is over 7 x 7 pixels, whatever the size of the map.
    check_sides("pretrainedmodels", name, written, least=193, most=224)
    return Construction(name, imports=[f"from pretrainedmodels.models.nasnet_mobile import {name}"])


_REQUIRED = (r"cell_stem_1\.path_1\.conv\.weight", r"reduction_cell_1\.conv_1x1\.conv\.weight")
LAYOUTS = (
    Family(
        project="timm",
        model=NASNet,
        source="timm.models.nasnet",
        names={"nasnet_large": "nasnetalarge"},
        translate=_translate,
        required=(*_REQUIRED, r"cell_17\.conv_1x1\.conv\.weight"),
    ).layout(),
    Family(
        project="pretrainedmodels",
        model=NASNet,
        source="pretrainedmodels.models.nasnet_mobile (Cadene/pretrained-models.pytorch)",
        names={"nasnet_mobile": "NASNetAMobile"},
        translate=_translate,
        required=_REQUIRED,
        forbidden={r"^cell_(4|5|10|11|16|17)\.": "the cells of the large NASNet-A"},
        call=_call,
    ).layout(),
)
