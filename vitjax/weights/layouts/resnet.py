"""Residual networks of torchvision, timm, and PyTorch code for small images."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.resnet import ResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import residual, resnet_target, timm_config
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    bared,
    require,
)
from vitjax.weights.layouts.residual import FORBIDDEN, Names, entries
from vitjax.weights.layouts.resnet_target import TIMM_EPSILON
from vitjax.weights.layouts.timm_card import TimmConvNetCard

TORCHVISION = Names(block=lambda stage, block: f"layer{stage}.{block - 1}", imagenet=True)


def _timm_head(ours: str, theirs: str) -> list[Entry]:
    """The head of timm's ``ResNetV2``, a 1 x 1 convolution."""
    return [
        Entry(
            (f"params/{ours}/kernel",),
            (f"{theirs}.weight",),
            lambda x: (x.reshape(x.shape[:2]).T,),
            lambda x: (x.T[:, :, None, None],),
        ),
        Entry((f"params/{ours}/bias",), (f"{theirs}.bias",)),
    ]


TIMM_V2 = Names(
    block=lambda stage, block: f"stages.{stage - 1}.blocks.{block - 1}",
    norms=("norm1", "norm2", "norm3"),
    shortcut_conv="downsample.conv",
    stem_conv="stem.conv",
    head="head.fc",
    preactivation=True,
    linear=_timm_head,
)
SMALL_IMAGES = Names(
    block=TORCHVISION.block,
    shortcut_conv="shortcut.0",
    shortcut_norm="shortcut.1",
    head="linear",
)
WIDE = Names(
    block=lambda stage, block: f"block{stage}.layer.{block - 1}",
    shortcut_conv="convShortcut",
    final_norm="bn1",
    preactivation=True,
)

# Networks of timm 1.0.31 without an array for their anti-aliasing, by block and stage sizes of the
# ResNet whose names and shapes they have.
_ANTI_ALIASED = {
    ("basic", (2, 2, 2, 2)): "timm's resnetblur18, which blurs before its strided convolutions",
    ("bottleneck", (3, 4, 6, 3)): (
        "timm's resnetaa50 and resnetblur50, which average or blur before their strided"
        " convolutions"
    ),
}
# Prefixes of the network in files of self-supervised learning, and other networks in them.
_PREFIXES = ("encoder_q.", "base_encoder.", "backbone.", "encoder.")
_COMPANIONS = (r"encoder_k\.", r"momentum_encoder\.", r"predictor\.", r"queue")
# With a prefix these are layers of a projection head; otherwise of a classifier.
_PROJECTION = tuple(rf"{re.escape(prefix)}fc\.\d\." for prefix in _PREFIXES)


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    """Removes the prefix of self-supervised learning (MoCo, SimCLR)."""
    if "conv1.weight" in arrays:
        return dict(arrays)
    for prefix in _PREFIXES:
        if f"{prefix}conv1.weight" in arrays:
            head = {n: x for n, x in arrays.items() if re.match(rf"{re.escape(prefix)}fc\.\d", n)}
            return bared({n: x for n, x in arrays.items() if n not in head}, prefix) | head
    return dict(arrays)


def _timm_siblings(fields: Mapping[str, Any]) -> str:
    """Networks of timm whose anti-aliasing has no arrays, by the network whose arrays they have."""
    own = (fields["block"], fields["stage_sizes"])
    plain = fields["width"] == 64 and fields["bottleneck_factor"] == 1 and fields["norm"] == "batch"
    if not (plain and fields["stem"] == "imagenet" and fields["stem_width"] is None):
        return ""
    return _ANTI_ALIASED.get(own, "")


def _describe_timm(arrays: Arrays, known: Known) -> Description:
    if "stem.conv.weight" not in arrays:
        found = residual.describe(TORCHVISION, arrays)
        return dataclasses.replace(found, siblings=_timm_siblings(found.fields))
    found = residual.describe(TIMM_V2, arrays)
    if found.fields["norm"] == "batch":
        return found
    bit = {"standardize_epsilon": TIMM_EPSILON, "zero_pool": True}
    return dataclasses.replace(found, fields={**found.fields, **bit})


def _written(arrays: Arrays | None) -> dict[str, Any]:
    """What the projects' code has, though files of others under its names may have it otherwise."""
    return {"strided": "3x3"} if arrays is None else {}


def _torchvision_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    plain = {"preactivation": False, "shortcut": "projection", "standardize_epsilon": None}
    require(module, "torchvision", **plain, zero_pool=False, **_written(arrays))
    return entries(TORCHVISION, module)


def _timm_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    require(module, "timm", **_written(arrays))
    if not module.preactivation:
        require(module, "timm", shortcut="projection", standardize_epsilon=None, zero_pool=False)
        return entries(TORCHVISION, module)
    # timm's pre-activation networks with group normalisation are BiT's.
    bit = module.norm == "group"
    require(module, "timm", stem="imagenet", shortcut="projection", zero_pool=bit)
    if bit != (module.standardize_epsilon is not None):
        raise WeightsError(
            "timm's pre-activation networks have group normalisation and standardised kernels, or"
            f" neither; this one has norm={module.norm!r} and standardize_epsilon="
            f"{module.standardize_epsilon!r}"
        )
    return entries(TIMM_V2, module)


def _small_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"preactivation": False, "stem": "cifar", "norm": "batch", "standardize_epsilon": None}
    require(module, "PyTorch code for CIFAR", **fields, **_written(arrays))
    resnet_target.needs_shortcuts("PyTorch code for CIFAR", module)
    return entries(SMALL_IMAGES, module)


def _wide_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"preactivation": True, "stem": "cifar", "norm": "batch", "block": "basic"}
    plain = {"shortcut": "projection", "standardize_epsilon": None}
    require(module, "WideResNet-pytorch", **fields, **plain)
    return entries(WIDE, module)


_IGNORED = (r".*num_batches_tracked$",)
_REQUIRED = (r"conv1(\.0)?\.weight", r"bn1\.weight", r"layer1\.0\.conv1\.weight")

LAYOUTS = (
    Layout(
        name="pytorch-cifar",
        modules=(ResNet,),
        source="akamaster/pytorch_resnet_cifar10 and kuangliu/pytorch-cifar",
        required=(r"conv1\.weight", r"layer1\.0\.bn2\.weight"),
        forbidden=FORBIDDEN,
        describe=lambda arrays, known: residual.describe(SMALL_IMAGES, arrays),
        entries=_small_entries,
        target=resnet_target.pytorch_cifar,
        ignored=_IGNORED,
        suffix=".th",
    ),
    Layout(
        name="torchvision",
        modules=(ResNet,),
        source="torchvision.models.resnet",
        required=_REQUIRED,
        forbidden=FORBIDDEN,
        describe=lambda arrays, known: residual.describe(TORCHVISION, arrays),
        entries=_torchvision_entries,
        prepare=_prepare,
        ignored=_IGNORED,
        companions=(*_COMPANIONS, *_PROJECTION),
        target=resnet_target.torchvision,
        card=TimmConvNetCard(),
        suffix=".pth",
    ),
    Layout(
        name="timm",
        modules=(ResNet,),
        source="timm.models.resnet and timm.models.resnetv2",
        required=(
            rf"{_REQUIRED[0]}|stem\.conv1?\.weight",
            rf"{_REQUIRED[1]}|stages\.0\.blocks\.0\.norm1\.weight",
            rf"{_REQUIRED[2]}|stages\.0\.blocks\.0\.conv1\.weight",
        ),
        forbidden=FORBIDDEN,
        describe=_describe_timm,
        entries=_timm_entries,
        prepare=_prepare,
        ignored=_IGNORED,
        companions=(*_COMPANIONS, *_PROJECTION),
        target=resnet_target.timm,
        config=timm_config.config,
        card=TimmConvNetCard(),
    ),
    Layout(
        name="wideresnet-pytorch",
        modules=(ResNet,),
        source="xternalz/WideResNet-pytorch",
        required=(r"conv1\.weight", r"block1\.layer\.0\.bn1\.weight", r"bn1\.weight"),
        forbidden=FORBIDDEN,
        describe=lambda arrays, known: residual.describe(WIDE, arrays),
        entries=_wide_entries,
        target=resnet_target.wide_resnet,
        ignored=_IGNORED,
        suffix=".pt",
    ),
)
