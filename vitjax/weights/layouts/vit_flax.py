"""Vision Transformers of Google's research code: vision_transformer, AugReg, big_vision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vitjax.models.vit import ViT
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import vit_parts, vit_target
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    bared,
    count,
    same,
)
from vitjax.weights.layouts.target import Construction, Written

# Prefixes: of an optimizer's target, of a tree of variables, of one tower of two.
_PREFIXES = ("opt/target/", "params/img/", "params/", "img/")
_SCANNED = "Transformer/encoderblock/"
_MOST_STACKED = 10_000


class _Names(NamedTuple):
    """A project's names of the layers in a block, and of positions."""

    norm1: str
    attention: str
    norm2: str
    mlp: str
    positions: str


_VISION_TRANSFORMER = _Names(
    "LayerNorm_0",
    "MultiHeadDotProductAttention_1",
    "LayerNorm_2",
    "MlpBlock_3",
    "Transformer/posembed_input/pos_embedding",
)
_BIG_VISION = _Names(
    "LayerNorm_0",
    "MultiHeadDotProductAttention_0",
    "LayerNorm_1",
    "MlpBlock_0",
    "pos_embedding",
)


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    for prefix in _PREFIXES:
        if f"{prefix}embedding/kernel" in arrays:
            arrays = bared(arrays, prefix)
    found = {}
    for name, array in arrays.items():
        if name.startswith(_SCANNED) and array.ndim:
            if len(array) > _MOST_STACKED:
                raise WeightsError(f"{name} of shape {array.shape} stacks too many blocks")
            for i, layer in enumerate(array):
                found[f"Transformer/encoderblock_{i}/{name[len(_SCANNED) :]}"] = layer
        else:
            found[name] = array
    return found


def _describe(names: _Names, arrays: Arrays, known: Known) -> Description:
    *patch, channels, width = vit_parts.patches(arrays, "embedding/kernel")
    block = "Transformer/encoderblock_0"
    hidden = arrays.get("pre_logits/bias")
    return vit_parts.describe(
        width=width,
        depth=count(arrays, r"Transformer/encoderblock_(\d+)/"),
        mlp_width=arrays[f"{block}/{names.mlp}/Dense_0/kernel"].shape[1],
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get(names.positions),
        computed="sincos2d" if names is _BIG_VISION else "none",
        class_token="cls" in arrays,
        # big_vision adds positions before it prepends the class token.
        positioned=(0 if names is _BIG_VISION else int("cls" in arrays),),
        num_classes=len(arrays.get("head/bias", ())),
        interpolation="bilinear",
        pooling="map" if "MAPHead_0/probe" in arrays else None,
        num_heads=arrays[f"{block}/{names.attention}/query/kernel"].shape[1],
        representation_size=None if hidden is None else len(hidden),
        gelu="tanh",
    )


def _entries(
    names: _Names, module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None
) -> list[Entry]:
    big = names is _BIG_VISION
    tokens = {"class": "cls", "positions": names.positions}
    if big and module.positions == "sincos2d":
        del tokens["positions"]
    entries = vit_parts.tokens(module, tokens, arrays, grid, rows_for="none" if big else "class")
    entries += _same("patch_embedding", "embedding")
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"Transformer/encoderblock_{i}"
        entries += _same(f"{ours}/norm1", f"{theirs}/{names.norm1}", "scale")
        entries += _attention(module, f"{ours}/attention", f"{theirs}/{names.attention}")
        entries += _same(f"{ours}/norm2", f"{theirs}/{names.norm2}", "scale")
        entries += _mlp(f"{ours}/mlp", f"{theirs}/{names.mlp}")
    entries += _same("encoder_norm", "Transformer/encoder_norm", "scale")
    if module.pooling == "map":
        entries += same("params/pool/probe", "MAPHead_0/probe")
        entries += _attention(module, "pool/attention", "MAPHead_0/MultiHeadDotProductAttention_0")
        entries += _same("pool/norm", "MAPHead_0/LayerNorm_0", "scale")
        entries += _mlp("pool/mlp", "MAPHead_0/MlpBlock_0")
    if vit_parts.has_hidden_head(module, "pre_logits/kernel", arrays):
        entries += _same("pre_logits", "pre_logits")
    return entries + _same("head", "head", optional=True)


def _same(ours: str, theirs: str, kernel: str = "kernel", optional: bool = False) -> list[Entry]:
    """A layer whose arrays have the same shapes and leaf names in both."""
    return [
        entry
        for leaf in (kernel, "bias")
        for entry in same(f"params/{ours}/{leaf}", f"{theirs}/{leaf}", optional=optional)
    ]


def _mlp(ours: str, theirs: str) -> list[Entry]:
    return _same(f"{ours}/dense1", f"{theirs}/Dense_0") + _same(
        f"{ours}/dense2", f"{theirs}/Dense_1"
    )


def _attention(module: ViT, ours: str, theirs: str) -> list[Entry]:
    """Attention, whose heads are an axis of their own in Flax."""
    heads, width = module.num_heads, module.width
    split = (heads, width // heads)

    def joined(axis: int, shape: tuple[int, ...], array: np.ndarray) -> tuple[np.ndarray]:
        if array.shape[axis] != heads:
            raise WeightsError(f"{array.shape[axis]} heads in the file and {heads} in the model")
        return (array.reshape(shape),)

    def form(axis: int, *shape: int) -> functools.partial[tuple[np.ndarray]]:
        return functools.partial(joined, axis, shape)

    entries = []
    for name in ("query", "key", "value", "out"):
        axis, apart = (0, (*split, width)) if name == "out" else (1, (width, *split))
        entries.append(
            Entry(
                (f"params/{ours}/{name}/kernel",),
                (f"{theirs}/{name}/kernel",),
                form(axis, width, width),
                lambda x, apart=apart: (x.reshape(apart),),
            )
        )
        if name == "out":
            entries += same(f"params/{ours}/out/bias", f"{theirs}/out/bias")
        else:
            entries.append(
                Entry(
                    (f"params/{ours}/{name}/bias",),
                    (f"{theirs}/{name}/bias",),
                    form(0, width),
                    lambda x: (x.reshape(split),),
                )
            )
    return entries


def _layout(
    name: str,
    names: _Names,
    source: str,
    target: Callable[[ViT, Written], Construction],
) -> Layout:
    return Layout(
        name=name,
        modules=(ViT,),
        source=source,
        required=(
            r"embedding/kernel",
            rf"Transformer/encoderblock_0/{names.attention}/query/kernel",
        ),
        forbidden={r"^(conv_root|root_block)/": "a ResNet before its patches (hybrid ViT)"},
        describe=functools.partial(_describe, names),
        entries=functools.partial(_entries, names),
        prepare=_prepare,
        ignored=(r"(opt|opt_state|extra)/", r"step$"),
        companions=(r"(params/)?(txt/|[tb]$)",),  # the other tower of two
        target=target,
        channels_first=False,
        suffix=".npz",
    )


LAYOUTS = (
    _layout(
        "npz",
        _VISION_TRANSFORMER,
        "google-research/vision_transformer, AugReg",
        vit_target.vision_transformer,
    ),
    _layout("big_vision", _BIG_VISION, "google-research/big_vision", vit_target.big_vision),
)
