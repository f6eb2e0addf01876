"""Vision Transformers with the names of torchvision."""

from __future__ import annotations

import re

import numpy as np

from vitjax.models.vit import ViT
from vitjax.weights.layouts import vit_parts, vit_target
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    convolution,
    count,
    dense,
    norm,
)

_BLOCK = "encoder.layers.encoder_layer_0"
_TOKENS = {"class": "class_token", "positions": "encoder.pos_embedding"}


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    # The files that torchvision publishes have older names of the MLP's layers.
    new = {"1": "0", "2": "3"}
    return {
        re.sub(r"\.mlp\.linear_([12])\.", lambda found: f".mlp.{new[found[1]]}.", name): array
        for name, array in arrays.items()
    }


def _describe(arrays: Arrays, known: Known) -> Description:
    width, channels, *patch = vit_parts.patches(arrays, "conv_proj.weight")
    hidden = arrays.get("heads.pre_logits.weight")
    return vit_parts.describe(
        width=width,
        depth=count(arrays, r"encoder\.layers\.encoder_layer_(\d+)\."),
        mlp_width=len(arrays[f"{_BLOCK}.mlp.0.weight"]),
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get("encoder.pos_embedding"),
        class_token="class_token" in arrays,
        positioned=(int("class_token" in arrays),),
        interpolation="bicubic_corners",
        num_classes=len(arrays.get("heads.head.weight", ())),
        representation_size=None if hidden is None else len(hidden),
    )


def _entries(module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None) -> list[Entry]:
    entries = vit_parts.tokens(module, _TOKENS, arrays, grid)
    entries += convolution("patch_embedding", "conv_proj", bias=True)
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"encoder.layers.encoder_layer_{i}"
        parts = [f"{ours}/attention/{name}" for name in ("query", "key", "value")]
        entries += norm(f"{ours}/norm1", f"{theirs}.ln_1")
        entries += vit_parts.fused(parts, f"{theirs}.self_attention.in_proj_", arrays)
        entries += dense(f"{ours}/attention/out", f"{theirs}.self_attention.out_proj")
        entries += norm(f"{ours}/norm2", f"{theirs}.ln_2")
        entries += dense(f"{ours}/mlp/dense1", f"{theirs}.mlp.0")
        entries += dense(f"{ours}/mlp/dense2", f"{theirs}.mlp.3")
    entries += norm("encoder_norm", "encoder.ln")
    if vit_parts.has_hidden_head(module, "heads.pre_logits.weight", arrays):
        entries += dense("pre_logits", "heads.pre_logits")
    return entries + dense("head", "heads.head", optional=True)


LAYOUTS = (
    Layout(
        name="torchvision",
        modules=(ViT,),
        source="torchvision.models.VisionTransformer",
        required=(
            r"conv_proj\.weight",
            r"encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight",
        ),
        describe=_describe,
        entries=_entries,
        prepare=_prepare,
        target=vit_target.torchvision,
        suffix=".pth",
    ),
)
