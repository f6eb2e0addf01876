"""Big Transfer's networks in the files of google-research/big_transfer."""

from __future__ import annotations

import dataclasses

from vitjax.models.resnet import ResNet
from vitjax.weights.layouts import resnet_target
from vitjax.weights.layouts.layout import Arrays, Description, Entry, Known, Layout, require
from vitjax.weights.layouts.residual import Names, describe, entries
from vitjax.weights.layouts.resnet_target import BIT_EPSILON


def _convolution(ours: str, theirs: str) -> list[Entry]:
    return [Entry((f"params/{ours}/kernel",), (f"{theirs}/standardized_conv2d/kernel",))]


def _group_norm(ours: str, theirs: str) -> list[Entry]:
    parts = (("scale", "gamma"), ("bias", "beta"))
    return [Entry((f"params/{ours}/{a}",), (f"{theirs}/group_norm/{b}",)) for a, b in parts]


def _head(ours: str, theirs: str) -> list[Entry]:
    kernel = Entry(
        (f"params/{ours}/kernel",),
        (f"{theirs}/conv2d/kernel",),
        lambda x: (x.reshape(x.shape[-2:]),),
        lambda x: (x[None, None],),
    )
    return [kernel, Entry((f"params/{ours}/bias",), (f"{theirs}/conv2d/bias",))]


_NAMES = Names(
    block=lambda stage, block: f"resnet/block{stage}/unit{block:02d}",
    convs=("a", "b", "c"),
    norms=("a", "b", "c"),
    shortcut_conv="a/proj",
    stem_conv="resnet/root_block",
    final_norm="resnet",
    head="resnet/head",
    within="/",
    preactivation=True,
    convolution=_convolution,
    group_norm=_group_norm,
    linear=_head,
)


def _describe(arrays: Arrays, known: Known) -> Description:
    found = describe(_NAMES, arrays)
    fields = {**found.fields, "zero_pool": True, "standardize_epsilon": BIT_EPSILON}
    return dataclasses.replace(found, fields=fields)


def _entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"preactivation": True, "norm": "group", "stem": "imagenet", "block": "bottleneck"}
    fields |= {"strided": "3x3"} if arrays is None else {}
    require(module, "big_transfer", **fields, shortcut="projection", zero_pool=True)
    if module.standardize_epsilon is None:
        require(module, "big_transfer", standardize_epsilon=BIT_EPSILON)
    return entries(_NAMES, module)


LAYOUTS = (
    Layout(
        name="npz",
        modules=(ResNet,),
        source="google-research/big_transfer",
        required=(r"resnet/root_block/standardized_conv2d/kernel",),
        describe=_describe,
        entries=_entries,
        target=resnet_target.big_transfer,
        suffix=".npz",
    ),
)
