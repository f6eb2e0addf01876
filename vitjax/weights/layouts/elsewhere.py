"""Architectures that vitjax does not have, told by the names in their files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from vitjax import models


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An architecture, as its reference code names arrays.

    Attributes:
        name: of the architecture.
        required: regular expressions, each of which is found in some array's name.
        nearest: registered models, the nearest first; one may be missing.
        forbidden: a regular expression that is found in no name; None for none.
    """

    name: str
    required: tuple[str, ...]
    nearest: tuple[str, ...]
    forbidden: str | None = None


_VIT = ("vit_s16",)
_BLOCK = r"(^|\.)stages\.\d+\.blocks\.\d+\."
_SWIN = r"(^|\.)layers\.\d+\.blocks\.\d+\.attn\."

# The first that fits is taken: a special form comes before the general one.
ARCHITECTURES = (
    Architecture("Swin Transformer V2", (_SWIN + "cpb_mlp",), _VIT),
    Architecture("Swin Transformer", (_SWIN + "relative_position_bias_table",), _VIT),
    Architecture(
        "Swin Transformer of torchvision",
        (r"(^|\.)features\.\d+\.\d+\.attn\.relative_position_bias_table",),
        _VIT,
    ),
    Architecture("ConvNeXt V2", (_BLOCK + r"(conv_dw|dwconv)\.", r"\.grn\."), ("resnet50",)),
    Architecture("EdgeNeXt", (_BLOCK + r"xca\.",), ("mobilenet_v2",)),
    Architecture("ConvNeXt", (_BLOCK + r"conv_dw\.", _BLOCK + "gamma"), ("resnet50",)),
    Architecture("ConvNeXt", (r"(^|\.)stages\.\d+\.\d+\.dwconv\.", r"\.gamma$"), ("resnet50",)),
    Architecture(
        "ConvNeXt of torchvision", (r"(^|\.)features\.\d+\.\d+\.layer_scale$",), ("resnet50",)
    ),
    Architecture("MaxViT", (_BLOCK + "attn_grid", _BLOCK + r"conv\."), _VIT),
    Architecture(
        "MaxViT of torchvision", (r"(^|\.)blocks\.\d+\.layers\.\d+\.layers\.grid_",), _VIT
    ),
    Architecture("CoAtNet", (_BLOCK + r"attn\.rel_pos", _BLOCK + r"conv\d_kxk"), _VIT),
    Architecture("BEiT", (r"attn\.q_bias$", r"relative_position_bias_table$"), _VIT),
    Architecture("EVA", (r"attn\.q_bias$", r"(^|\.)pos_embed$"), _VIT),
    Architecture("CaiT", (r"(^|\.)blocks_token_only\.",), _VIT),
    Architecture("MLP-Mixer", (r"\.mlp_tokens\.fc1\.",), _VIT),
    Architecture("RegNet", (r"(^|\.)s\d\.b\d+\.conv\d\.",), ("resnext50_32x4d", "resnet50")),
    Architecture(
        "RegNet of torchvision",
        (r"(^|\.)trunk_output\.block\d\.",),
        ("resnext50_32x4d", "resnet50"),
    ),
    Architecture(
        "EfficientNetV2",
        (r"(^|\.)conv_stem\.", r"\.conv_exp\.", r"\.se\.conv_reduce\."),
        ("efficientnet_b0", "mobilenet_v2"),
    ),
    Architecture("GhostNet", (r"\.ghost\d\.primary_conv\.",), ("mobilenet_v2",)),
    Architecture(
        "MobileNetV3",
        (r"(^|\.)conv_stem\.", r"\.se\.conv_reduce\.", r"(^|\.)conv_head\.bias$"),
        ("mnasnet1_0", "mobilenet_v2"),
    ),
    Architecture(
        "MobileNetV3 of torchvision",
        (r"(^|\.)features\.\d+\.block\.\d+\.fc1\.", r"(^|\.)classifier\.3\."),
        ("mnasnet1_0", "mobilenet_v2"),
    ),
    Architecture("MobileViT", (r"\.transformer\.\d+\.attn\.qkv\.", r"\.conv_kxk\."), ("vit_ti16",)),
    Architecture("RepVGG", (r"\.conv_kxk\.conv\.", r"\.identity\."), ("resnet18",)),
    Architecture("HRNet", (r"(^|\.)stage\d\.\d+\.branches\.", r"\.fuse_layers\."), ("resnet34",)),
    Architecture(
        "DETR",
        (r"(^|\.)transformer\.decoder\.layers\.", r"(^|\.)query_embed\.", r"(^|\.)class_embed\."),
        ("resnet50",),
    ),
    Architecture(
        "the text encoder of CLIP",
        (r"(^|\.)token_embedding\.weight$",),
        _VIT,
        forbidden=r"(^|\.)(visual|vision_model)\.",
    ),
)


def named(names: Iterable[str]) -> Architecture | None:
    """The architecture that a file's names are of; None if it is not known."""
    names = tuple(names)

    def found(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in names)

    for each in ARCHITECTURES:
        forbidden = each.forbidden is not None and found(each.forbidden)
        if all(map(found, each.required)) and not forbidden:
            return each
    return None


def words(names: Iterable[str]) -> str:
    """What is said of a file of an architecture that vitjax does not have; empty if not known."""
    architecture = named(names)
    if architecture is None:
        return ""
    nearest = next((name for name in architecture.nearest if name in models.names()), None)
    near = "" if nearest is None else f"; the nearest network that it has is {nearest}"
    return f"\n  these are the names of {architecture.name}, which vitjax does not have{near}"
