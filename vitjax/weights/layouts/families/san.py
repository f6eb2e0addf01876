"""SAN of the authors' code."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from vitjax.models.san import SAN, PairwiseSAN, PatchwiseSAN
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.layout import Layout
from vitjax.weights.layouts.target import Construction, Written

PROJECT = "san"
_KINDS: dict[type[SAN], int] = {PairwiseSAN: 0, PatchwiseSAN: 1}
_TOP = {"stem_conv": "conv_in", "stem_norm": "bn_in", "head": "fc"}
_BLOCK = {
    "norm1": "bn1",
    "norm2": "bn2",
    "conv": "conv",
    "attention/query": "sam.conv1",
    "attention/key": "sam.conv2",
    "attention/value": "sam.conv3",
    "attention/position": "sam.conv_p",
    "attention/norm1": "sam.conv_w.0",
    "attention/conv1": "sam.conv_w.2",
    "attention/norm2": "sam.conv_w.3",
    "attention/conv2": "sam.conv_w.5",
}


def _translate(module: Any, name: str) -> str:
    del module
    if name in _TOP:
        return _TOP[name]
    if (found := re.fullmatch(r"stage(\d+)_(conv0|norm)", name)) is not None:
        return f"{'conv' if found[2] == 'conv0' else 'bn'}{int(found[1]) - 1}"
    found = re.fullmatch(r"stage(\d+)_block(\d+)/(.+)", name)
    if found is None:
        raise KeyError(name)
    return f"layer{int(found[1]) - 1}.{int(found[2]) - 1}.{_BLOCK[found[3]]}"


def _call(name: str, written: Written) -> Construction:
    del name
    if written.channels != 3:
        raise WeightsError(f"{PROJECT} has only images of 3 channels, not of {written.channels}")
    return Construction("san", imports=["from model.san import san"])


def _sized(made: Construction, module: SAN) -> Construction:
    sizes = {"layers": list(module.stage_sizes), "kernels": list(module.kernel_sizes)}
    arguments = {**made.arguments, "sa_type": _KINDS[type(module)], **sizes}
    return dataclasses.replace(made, arguments=arguments)


def _layout(model: type[SAN], kind: str, required: str, **fields: Any) -> Layout:
    names = [f"san{depth}_{kind}" for depth in (10, 15, 19)]
    return Family(
        project=PROJECT,
        model=model,
        source="hszhao/SAN, model/san.py",
        names={name: name for name in names},
        translate=_translate,
        required=(r"conv_in\.weight", r"layer0\.0\.sam\.conv_w\.5\.weight", required),
        construct=_sized,
        call=_call,
        **fields,
    ).layout()


LAYOUTS = (
    _layout(
        PairwiseSAN,
        "pairwise",
        r"layer0\.0\.sam\.conv_p\.weight",
        guessed={
            "kernel_sizes": "no array shows the footprints of pairwise attention; they are taken to"
            " be those of the paper"
        },
    ),
    _layout(
        PatchwiseSAN,
        "patchwise",
        r"layer0\.0\.sam\.conv3\.weight",
        forbidden={r"\.sam\.conv_p\.": "its attention is pairwise"},
    ),
)
