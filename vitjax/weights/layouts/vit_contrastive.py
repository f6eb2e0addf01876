"""The vision towers of CLIP and SigLIP, of transformers and of open_clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.vit import ViT
from vitjax.weights.layouts import vit_parts
from vitjax.weights.layouts.card import Card, section
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
from vitjax.weights.layouts.vit_huggingface import TransformersCard

_TOWER = "vision_model."
_PATCHES = "embeddings.patch_embedding.weight"
_PROJECTION = "visual_projection.weight"
_TOKENS = {
    "class": "embeddings.class_embedding",
    "positions": "embeddings.position_embedding.weight",
}
_OPEN_TOKENS = {"class": "class_embedding", "positions": "positional_embedding"}
# Numbers that OpenAI's own files have, whose networks all have QuickGELU.
_OPENAI = ("input_resolution", "context_length", "vocab_size")


def _tokens_of(arrays: Arrays, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """``arrays`` with the axes of tokens, which these projects leave out."""
    found = dict(arrays)
    for name in names.values():
        if name in found:
            found[name] = found[name].reshape(1, -1, found[name].shape[-1])
    return found


# ----------------------------------------------------------------------------------- transformers


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    if _TOWER + _PATCHES in arrays:
        arrays = bared(arrays, _TOWER)
    return _tokens_of(arrays, _TOKENS)


def _describe(arrays: Arrays, known: Known) -> Description:
    width, channels, *patch = vit_parts.patches(arrays, _PATCHES)
    token = "embeddings.class_embedding" in arrays
    found = vit_parts.describe(
        width=width,
        depth=count(arrays, r"encoder\.layers\.(\d+)\."),
        mlp_width=len(arrays["encoder.layers.0.mlp.fc1.weight"]),
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get(_TOKENS["positions"]),
        class_token=token,
        positioned=(int(token),),
        num_classes=len(arrays.get(_PROJECTION, ())),
        pooling="map" if "head.probe" in arrays else None,
        interpolation="bicubic_plain",
        pre_norm="pre_layrnorm.weight" in arrays,
        gelu="quick" if token else "tanh",
        norm_epsilon=1e-5 if token else 1e-6,
    )
    if not token:
        return found  # all of SigLIP have the same
    words = (
        "no array shows hidden_act of its config.json; taken to be OpenAI's (gelu='quick'), where"
        " LAION's CLIP has gelu='exact'"
    )
    return dataclasses.replace(found, guessed={**found.guessed, "gelu": words})


def _entries(module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None) -> list[Entry]:
    entries = vit_parts.tokens(module, _TOKENS, arrays, grid)
    biased = arrays is None or "embeddings.patch_embedding.bias" in arrays
    entries += convolution("patch_embedding", "embeddings.patch_embedding", bias=biased)
    entries += [] if biased else [absent_bias("patch_embedding", module.width)]
    entries += norm("pre_norm", "pre_layrnorm") if module.pre_norm else []
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"encoder.layers.{i}"
        entries += norm(f"{ours}/norm1", f"{theirs}.layer_norm1")
        for name in ("query", "key", "value"):
            entries += dense(f"{ours}/attention/{name}", f"{theirs}.self_attn.{name[0]}_proj")
        entries += dense(f"{ours}/attention/out", f"{theirs}.self_attn.out_proj")
        entries += norm(f"{ours}/norm2", f"{theirs}.layer_norm2")
        entries += dense(f"{ours}/mlp/dense1", f"{theirs}.mlp.fc1")
        entries += dense(f"{ours}/mlp/dense2", f"{theirs}.mlp.fc2")
    entries += norm("encoder_norm", "post_layernorm")
    if module.pooling == "map":
        parts = [f"pool/attention/{name}" for name in ("query", "key", "value")]
        entries += same("params/pool/probe", "head.probe")
        entries += vit_parts.fused(parts, "head.attention.in_proj_", arrays)
        entries += dense("pool/attention/out", "head.attention.out_proj")
        entries += norm("pool/norm", "head.layernorm")
        entries += dense("pool/mlp/dense1", "head.mlp.fc1")
        entries += dense("pool/mlp/dense2", "head.mlp.fc2")
    if arrays is not None and _PROJECTION in arrays:
        entries += dense("head", "visual_projection", bias=False, optional=True)
        entries.append(absent_bias("head", len(arrays[_PROJECTION])))
    return entries


class _TowerCard(TransformersCard):
    """The cards of transformers for networks of two towers."""

    def fields(self, card: Card, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """As `TransformersCard.fields`, of the vision tower."""
        return super().fields(_tower(card), arrays)

    def sides(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        """As `CardReader.sides`."""
        return super().sides(_tower(card), arrays)


def _tower(card: Card) -> Card:
    if "vision_config" not in card.config:
        return card
    return dataclasses.replace(card, config=section(card.config, "vision_config"))


# ------------------------------------------------------------------------- OpenAI's and open_clip's


def _open_prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    if "visual.conv1.weight" in arrays:
        # The text tower has the same names without the prefix.
        tower = ("visual.", *_OPENAI)
        others = {f"text.{n}": x for n, x in arrays.items() if not n.startswith(tower)}
        arrays = bared({n: x for n, x in arrays.items() if n.startswith(tower)}, "visual.") | others
    return _tokens_of(arrays, _OPEN_TOKENS)


def _open_describe(arrays: Arrays, known: Known) -> Description:
    width, channels, *patch = vit_parts.patches(arrays, "conv1.weight")
    projection = arrays.get("proj", np.zeros((width, 0)))
    own = any(name in arrays for name in _OPENAI)
    fields: dict[str, Any] = {"gelu": "quick"} if own else {}
    found = vit_parts.describe(
        width=width,
        depth=count(arrays, r"transformer\.resblocks\.(\d+)\."),
        mlp_width=len(arrays["transformer.resblocks.0.mlp.c_fc.weight"]),
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get("positional_embedding"),
        class_token=True,
        positioned=(1,),
        num_classes=projection.shape[1],
        pre_norm="ln_pre.weight" in arrays,
        norm_epsilon=1e-5,
        **fields,
    )
    if own:
        return found
    words = (
        "no array shows its GELU: gelu='quick' for OpenAI's weights and for names with 'quickgelu',"
        " gelu='exact' for LAION's and others of open_clip"
    )
    return dataclasses.replace(
        found, guessed={**found.guessed, "gelu": words}, notes=(*found.notes, words)
    )


def _open_entries(module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None) -> list[Entry]:
    entries = vit_parts.tokens(module, _OPEN_TOKENS, arrays, grid)
    entries += [
        *convolution("patch_embedding", "conv1"),
        absent_bias("patch_embedding", module.width),
    ]
    entries += norm("pre_norm", "ln_pre") if module.pre_norm else []
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"transformer.resblocks.{i}"
        parts = [f"{ours}/attention/{name}" for name in ("query", "key", "value")]
        entries += norm(f"{ours}/norm1", f"{theirs}.ln_1")
        entries += vit_parts.fused(parts, f"{theirs}.attn.in_proj_", arrays)
        entries += dense(f"{ours}/attention/out", f"{theirs}.attn.out_proj")
        entries += norm(f"{ours}/norm2", f"{theirs}.ln_2")
        entries += dense(f"{ours}/mlp/dense1", f"{theirs}.mlp.c_fc")
        entries += dense(f"{ours}/mlp/dense2", f"{theirs}.mlp.c_proj")
    entries += norm("encoder_norm", "ln_post")
    if arrays is not None and "proj" in arrays:
        entries += [*same("params/head/kernel", "proj", optional=True)]
        entries.append(absent_bias("head", arrays["proj"].shape[-1]))
    return entries


LAYOUTS = (
    Layout(
        name="huggingface",
        modules=(ViT,),
        source="the vision towers of CLIP and SigLIP in transformers",
        required=(
            r"embeddings\.patch_embedding\.weight",
            r"encoder\.layers\.0\.self_attn\.q_proj\.weight",
        ),
        describe=_describe,
        entries=_entries,
        prepare=_prepare,
        ignored=(r"embeddings\.position_ids$",),
        companions=(r"text_model\.|text_projection\.|logit_(scale|bias)$",),
        card=_TowerCard(),
    ),
    Layout(
        name="open_clip",
        modules=(ViT,),
        source="OpenAI's CLIP and open_clip",
        required=(r"class_embedding", r"transformer\.resblocks\.0\.attn\.in_proj_weight"),
        forbidden={
            r"^transformer\.resblocks\.\d+\.ls_\d\.": "LayerScale under other names",
            r"^attn_pool\.": "attentional pooling (CoCa)",
        },
        describe=_open_describe,
        entries=_open_entries,
        prepare=_open_prepare,
        ignored=_OPENAI,
        companions=(r"text\.",),
    ),
)
