"""Vision Transformers with the names of timm, which DINO, DINOv2, MAE and DeiT share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.vit import ViT
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import timm_config, vit_parts, vit_target
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    absent_bias,
    bared,
    convolution,
    count,
    dense,
    norm,
    same,
)
from vitjax.weights.layouts.timm_card import PROBE, TimmViTCard, has_prefix_tokens

_PATCHES = "patch_embed.proj.weight"
# The name of registers in DINOv2's own files; in timm's it is reg_token.
_REGISTERS = "register_tokens"
# Prefixes of a backbone that is one of several networks.
_PREFIXES = ("backbone.", "visual.trunk.", "encoder.")
_RENAMED = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2 groups blocks in chunks
    (r"^storage_tokens$", _REGISTERS),
)
_TOWER_FIELDS: dict[str, Any] = {"norm_epsilon": 1e-5}
_TOWER_GELU = (
    "it is a tower of CLIP, and no array shows its GELU: gelu='quick' for names of timm with"
    " 'quickgelu', gelu='exact' for its others"
)
# How timm names the poolings that no array shows.
_POOLINGS = {
    "token": "that of the class token (timm's global_pool='token')",
    "mean": "the mean of the patches (timm's global_pool='avg')",
}
_PARTLY_POOLED = (
    "it has a pooling by attention, and a class token or registers, and no array shows whether"
    " these are pooled too: with timm's pool_include_prefix=True they are, as with pooling='map';"
    " vitjax has no network that leaves them out"
)
# The head of DINO and iBOT.
_SELF_DISTILLED = r"((dino|ibot)_)?head\.(mlp|last_layer)"
_SWIGLU = "SwiGLU in its MLPs"
_FORBIDDEN = {
    r"^(head_dist\.|dist_token$)": "a distillation token (distilled DeiT)",
    r"rope_embed\.|(^|\.)rope\.": "rotary positions (DINOv3, RoPE-ViT)",
    r"^blocks\.0\.mlp\.(w12|fc1_g)\.": _SWIGLU,
    r"^blocks\.0\.(attn|mlp)\.norm\.": "further normalisations inside its blocks",
    r"\.(relative_position_bias_table|rel_pos_[hw])$": "relative positions (BEiT, SAM)",
    r"\.attn\.[qv]_bias$": "biases of queries and values only (BEiT, EVA)",
    r"\.attn\.(proj_l|proj_w)\.": "talking heads (CaiT)",
    r"\.attn\.lambda_[qk]\d$": "differential attention",
    r"^patch_embed\.backbone\.": "a convolutional network before its patches (hybrid ViT)",
}


def _tokens(arrays: Arrays | None) -> dict[str, str]:
    """The names of the first tokens and of the positions."""
    registers = _REGISTERS if arrays is not None and _REGISTERS in arrays else "reg_token"
    return {"class": "cls_token", "registers": registers, "positions": "pos_embed"}


def _positioned(arrays: Arrays, token: bool, registers: int) -> tuple[int, ...]:
    """The numbers of first tokens that may have a position, the usual number first."""
    if "blocks.0.gamma_1" in arrays:  # DeiT III's own names; its class token has no position
        return (0,)
    if _REGISTERS in arrays or "mask_token" in arrays:  # DINOv2, DINO, MAE
        return (int(token),)
    return int(token) + registers, 0  # all or none, by no_embed_class


def _interpolation(arrays: Arrays, *, scaled: bool, registers: int) -> str:
    """How the project resizes positions: timm's way unless the file has another project's names."""
    if registers:
        return "bicubic"
    if any(re.match(_SELF_DISTILLED, name) for name in arrays):
        return "bicubic_offset"
    if "mask_token" not in arrays:
        return "bicubic"
    return "bicubic_offset" if scaled else "bicubic_plain"  # DINOv2, MAE


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    for prefix in _PREFIXES:
        if prefix + _PATCHES in arrays:
            arrays = bared(arrays, prefix)
    renamed = {}
    for name, array in arrays.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = array
    return renamed


def _describe(arrays: Arrays, known: Known) -> Description:
    width, channels, *patch = vit_parts.patches(arrays, _PATCHES)
    hidden = arrays["blocks.0.mlp.fc1.weight"]
    if len(hidden) != arrays["blocks.0.mlp.fc2.weight"].shape[1]:
        raise WeightsError(f"has {_SWIGLU}, which no ViT here has")
    classes = arrays.get("head.weight", np.zeros((0, width)))
    normed = arrays.get("blocks.0.attn.q_norm.weight")
    tower = "norm_pre.weight" in arrays
    token = "cls_token" in arrays
    pooling = None
    if PROBE in arrays:
        pooling = "map"
    elif "fc_norm.weight" in arrays:
        pooling = "mean"
    elif classes.shape[1] == 2 * width:
        pooling = "token_and_mean"
    hidden_head = arrays.get("pre_logits.fc.weight")
    name = _tokens(arrays)["registers"]
    registers = arrays[name].shape[1] if name in arrays else 0
    scales = {"blocks.0.ls1.gamma", "blocks.0.gamma_1"}.intersection(arrays)
    found = vit_parts.describe(
        width=width,
        depth=count(arrays, r"blocks\.(\d+)\."),
        mlp_width=len(hidden),
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get("pos_embed"),
        class_token=token,
        positioned=_positioned(arrays, token, registers),
        registers=registers,
        interpolation=_interpolation(arrays, scaled=bool(scales), registers=registers),
        num_classes=len(classes),
        pooling=pooling,
        num_heads=None if normed is None else width // len(normed),
        qk_norm=normed is not None,
        qkv_bias=vit_parts.has_array(arrays, r"blocks\.\d+\.attn\.qkv\.bias"),
        pre_norm=tower,
        **_TOWER_FIELDS if tower else {},
        fc_norm="fc_norm.weight" in arrays,
        # Only its presence matters; this is the initial value in most networks.
        layer_scale=1e-5 if scales else None,
        representation_size=None if hidden_head is None else len(hidden_head),
    )
    guessed = {**found.guessed, **({"gelu": _TOWER_GELU} if tower else {})}
    fields, placeholders = dict(found.fields), dict(found.placeholders)
    if fields["pooling"] in _POOLINGS:
        taken = _POOLINGS[fields["pooling"]]
        guessed["pooling"] = f"no array shows its pooling; taken to be {taken}"
    elif pooling == "map" and has_prefix_tokens(arrays):
        guessed["pooling"] = _PARTLY_POOLED
        placeholders["pooling"] = fields.pop("pooling")
    return dataclasses.replace(
        found,
        fields=fields,
        guessed=guessed,
        placeholders=placeholders,
        siblings=_siblings(arrays, fields),
    )


def _siblings(arrays: Arrays, fields: Mapping[str, Any]) -> str:
    """Networks of timm 1.0.31 that compute something else from arrays of these names and shapes."""
    sizes = (fields["width"], fields["depth"], fields["patch_size"])
    if "norm_pre.weight" in arrays and PROBE in arrays:
        return "timm's vit_pe_core networks (Perception Encoder), which have rotary positions too"
    if not fields["qkv_bias"] and "fc_norm.weight" in arrays:
        rpn = "timm's vit_base_patch16_rpn_224, which normalises after each branch and not before"
        return rpn if sizes == (768, 12, 16) and not fields["class_token"] else ""
    rotary = {(384, 12, 16): "small", (768, 12, 16): "base", (1024, 24, 16): "large"}
    plain = fields["class_token"] and not fields["class_position"] and not fields["registers"]
    if "blocks.0.gamma_1" in arrays and plain and sizes in rotary:
        return f"timm's vit_{rotary[sizes]}_patch16_rope_ape_224, which has rotary positions too"
    return ""


def _entries(module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None) -> list[Entry]:
    entries = vit_parts.tokens(module, _tokens(arrays), arrays, grid, rows_for="all")
    biased = arrays is None or f"{_PATCHES[:-6]}bias" in arrays or not module.pre_norm
    entries += convolution("patch_embedding", "patch_embed.proj", bias=biased)
    entries += [] if biased else [absent_bias("patch_embedding", module.width)]
    entries += norm("pre_norm", "norm_pre") if module.pre_norm else []
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"blocks.{i}"
        parts = [f"{ours}/attention/{name}" for name in ("query", "key", "value")]
        entries += norm(f"{ours}/norm1", f"{theirs}.norm1")
        entries += vit_parts.fused(parts, f"{theirs}.attn.qkv.", arrays, bias=module.qkv_bias)
        if module.qk_norm:
            entries += norm(f"{ours}/attention/query_norm", f"{theirs}.attn.q_norm")
            entries += norm(f"{ours}/attention/key_norm", f"{theirs}.attn.k_norm")
        entries += dense(f"{ours}/attention/out", f"{theirs}.attn.proj")
        entries += norm(f"{ours}/norm2", f"{theirs}.norm2")
        entries += dense(f"{ours}/mlp/dense1", f"{theirs}.mlp.fc1")
        entries += dense(f"{ours}/mlp/dense2", f"{theirs}.mlp.fc2")
        if module.layer_scale is not None:
            for number in "12":
                name = f"{theirs}.gamma_{number}"  # in DeiT III's own files
                name = name if name in (arrays or ()) else f"{theirs}.ls{number}.gamma"
                entries += same(f"params/{ours}/layer_scale{number}/scale", name)
    entries += norm("fc_norm", "fc_norm") if module.fc_norm else norm("encoder_norm", "norm")
    if module.pooling == "map":
        parts = [f"pool/attention/{name}" for name in ("key", "value")]
        entries += same("params/pool/probe", PROBE)
        entries += dense("pool/attention/query", "attn_pool.q")
        entries += vit_parts.fused(parts, "attn_pool.kv.", arrays)
        entries += dense("pool/attention/out", "attn_pool.proj")
        entries += norm("pool/norm", "attn_pool.norm")
        entries += dense("pool/mlp/dense1", "attn_pool.mlp.fc1")
        entries += dense("pool/mlp/dense2", "attn_pool.mlp.fc2")
    if vit_parts.has_hidden_head(module, "pre_logits.fc.weight", arrays):
        entries += dense("pre_logits", "pre_logits.fc")
    return entries + dense("head", "head", optional=True)


LAYOUTS = (
    Layout(
        name="timm",
        modules=(ViT,),
        source="timm's VisionTransformer; the repositories of DeiT, DINO, DINOv2 and MAE",
        required=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight"),
        forbidden=_FORBIDDEN,
        describe=_describe,
        entries=_entries,
        prepare=_prepare,
        ignored=(r"mask_token$", r"\S*\.bias_mask$"),
        companions=(
            r"decoder[_.]",  # MAE
            _SELF_DISTILLED,
            r"visual\.head\.|text\.|logit_(scale|bias)$",  # the other tower of two
        ),
        target=vit_target.timm,
        config=timm_config.config,
        card=TimmViTCard(),
    ),
)
