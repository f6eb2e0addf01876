"""Residual networks as torchvision, timm, and PyTorch code for small images keep them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from vitjax.models.resnet import ResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Layout,
    bared,
    has,
    made_with,
    require,
)
from vitjax.weights.layouts.residual import Names, entries, fields_of, input_shape

# timm's StdConv2d as its BiT networks have it; those of google-research/big_transfer have 1e-10.
TIMM_EPSILON = 1e-8

TORCHVISION = Names(block=lambda stage, block: f"layer{stage}.{block - 1}")


def _timm_head(ours: str, theirs: str) -> list[Entry]:
    """A linear layer that is a 1 x 1 convolution, as timm's ``ResNetV2`` has it."""
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

# Variants of timm whose parameters alone tell them apart: a pattern of names, and what they are.
_UNKNOWN = {
    r"conv1\.\d+\.weight|stem\.conv1\.weight": "a stem of several convolutions (ResNet-C and -D)",
    r"(layer|stages\.)\d.*\.(se|attn)\.": "attention over channels (squeeze and excitation)",
    r".*\.conv\d\.bias": "biases in its convolutions",
}
# How self-supervised learning keeps the network, and what it keeps beside it.
_PREFIXES = ("encoder_q.", "base_encoder.", "backbone.", "encoder.")
_COMPANIONS = (r"encoder_k\.", r"momentum_encoder\.", r"predictor\.", r"queue")
# Behind a prefix, the layers of a projection head; elsewhere somebody's classifier.
_PROJECTION = tuple(rf"{re.escape(prefix)}fc\.\d\." for prefix in _PREFIXES)


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    """Without the prefix of self-supervised learning (MoCo, SimCLR)."""
    if "conv1.weight" in arrays:
        return dict(arrays)
    for prefix in _PREFIXES:
        if f"{prefix}conv1.weight" in arrays:
            head = {n: x for n, x in arrays.items() if re.match(rf"{re.escape(prefix)}fc\.\d", n)}
            return bared({n: x for n, x in arrays.items() if n not in head}, prefix) | head
    return dict(arrays)


def _is_torchvision(arrays: Arrays) -> bool:
    return has(arrays, r"conv1(\.0)?\.weight", r"bn1\.weight", r"layer1\.0\.conv1\.weight")


def _is_small(arrays: Arrays) -> bool:
    # Without a head, and with shortcuts that have no parameters, what torchvision would have is
    # missing.
    torchvision = any(".downsample." in name or name.startswith("fc.") for name in arrays)
    return has(arrays, r"conv1\.weight", r"layer1\.0\.bn2\.weight") and not torchvision


def _is_v2(arrays: Arrays) -> bool:
    return has(arrays, r"stem\.conv1?\.weight", r"stages\.0\.blocks\.0\.norm1\.weight")


def _refuse_unknown(arrays: Arrays) -> None:
    for pattern, what in _UNKNOWN.items():
        if any(re.match(pattern, name) for name in arrays):
            raise WeightsError(f"it has {what}, as no model here does")
    averaged = arrays.get("layer2.0.downsample.1.weight")
    if averaged is not None and averaged.ndim == 4:
        raise WeightsError("its shortcuts average before they project (ResNet-D), as none here do")


def _describe(names: Names, arrays: Arrays, **more: Any) -> Description:
    _refuse_unknown(arrays)
    fields = {**fields_of(names, arrays), **more}
    return Description(ResNet, fields, input_shape(names, arrays))


def _describe_v2(arrays: Arrays) -> Description:
    found = _describe(TIMM_V2, arrays)
    if found.fields["norm"] == "batch":
        return found
    bit = {"standardize_epsilon": TIMM_EPSILON, "zero_pool": True}
    return Description(ResNet, {**found.fields, **bit}, found.input_shape)


def _describe_timm(arrays: Arrays, grid: tuple[int, int] | None) -> Description:
    return _describe_v2(arrays) if _is_v2(arrays) else _describe(TORCHVISION, arrays)


def _torchvision_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    plain = {"preactivation": False, "shortcut": "projection", "standardize_epsilon": None}
    require(module, "torchvision", **plain, zero_pool=False)
    return entries(TORCHVISION, module)


def _timm_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    if not module.preactivation:
        require(module, "timm", shortcut="projection", standardize_epsilon=None, zero_pool=False)
        return entries(TORCHVISION, module)
    # Which of timm's networks are normalised in groups are BiT's, and standardise their kernels.
    bit = module.norm == "group"
    require(module, "timm", stem="imagenet", shortcut="projection", zero_pool=bit)
    if bit != (module.standardize_epsilon is not None):
        raise WeightsError(
            "timm has pre-activation networks with group normalisation and standardised kernels, or"
            f" with neither; this one has norm={module.norm!r} and standardize_epsilon="
            f"{module.standardize_epsilon!r}"
        )
    return entries(TIMM_V2, module)


def _small_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"preactivation": False, "stem": "cifar", "norm": "batch", "standardize_epsilon": None}
    require(module, "PyTorch code for CIFAR", **fields)
    return entries(SMALL_IMAGES, module)


def _wide_entries(module: ResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"preactivation": True, "stem": "cifar", "norm": "batch", "block": "basic"}
    plain = {"shortcut": "projection", "standardize_epsilon": None}
    require(module, "WideResNet-pytorch", **fields, **plain)
    return entries(WIDE, module)


def _torchvision_differs(module: ResNet) -> list[str]:
    if module.norm == "batch":
        return []
    option = f"norm_layer=lambda channels: nn.GroupNorm({module.norm_groups}, channels)"
    return made_with("torchvision's ResNet", [option])


def _timm_differs(module: ResNet) -> list[str]:
    options = []
    if module.norm == "group" and not (module.preactivation and module.norm_groups == 32):
        layer = "GroupNormAct" if module.preactivation else "GroupNorm"
        options.append(f"norm_layer=partial({layer}, num_groups={module.norm_groups})")
    if module.standardize_epsilon not in (None, TIMM_EPSILON):
        options.append(f"conv_layer=partial(StdConv2d, eps={module.standardize_epsilon})")
    return made_with("timm's ResNetV2" if module.preactivation else "timm's ResNet", options)


_IGNORED = (r".*num_batches_tracked$",)

LAYOUTS = (
    Layout(
        name="pytorch-cifar",
        modules=(ResNet,),
        source="akamaster/pytorch_resnet_cifar10 and kuangliu/pytorch-cifar",
        recognise=_is_small,
        describe=lambda arrays, grid: _describe(SMALL_IMAGES, arrays),
        entries=_small_entries,
        ignored=_IGNORED,
        suffix=".th",
    ),
    Layout(
        name="torchvision",
        modules=(ResNet,),
        source="torchvision.models.resnet",
        recognise=_is_torchvision,
        describe=lambda arrays, grid: _describe(TORCHVISION, arrays),
        entries=_torchvision_entries,
        prepare=_prepare,
        ignored=_IGNORED,
        companions=(*_COMPANIONS, *_PROJECTION),
        differs=_torchvision_differs,
        suffix=".pth",
    ),
    Layout(
        name="timm",
        modules=(ResNet,),
        source="timm.models.resnet and timm.models.resnetv2",
        recognise=lambda arrays: _is_v2(arrays) or _is_torchvision(arrays),
        describe=_describe_timm,
        entries=_timm_entries,
        ignored=_IGNORED,
        differs=_timm_differs,
    ),
    Layout(
        name="wideresnet-pytorch",
        modules=(ResNet,),
        source="xternalz/WideResNet-pytorch",
        recognise=lambda arrays: has(
            arrays, r"conv1\.weight", r"block1\.layer\.0\.bn1\.weight", r"bn1\.weight"
        ),
        describe=lambda arrays, grid: _describe(WIDE, arrays),
        entries=_wide_entries,
        ignored=_IGNORED,
        suffix=".pt",
    ),
)
