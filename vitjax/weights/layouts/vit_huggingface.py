"""Vision Transformers of Hugging Face's transformers: ViT, DeiT, DINOv2 and the encoder of MAE."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.vit import ViT
from vitjax.weights.layouts import vit_parts
from vitjax.weights.layouts.card import Card, CardReader, invalid
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
    same,
)

_PATCHES = "embeddings.patch_embeddings.projection.weight"
_BLOCK = "encoder.layer.0"
_TOKENS = {
    "class": "embeddings.cls_token",
    "registers": "embeddings.register_tokens",
    "positions": "embeddings.position_embeddings",
}
# Names of all architectures and versions to those of DINOv2 in transformers 5.
_RENAMED = (
    (r"^(vit|deit|dinov2|dinov2_with_registers)\.", ""),
    (r"^layers\.", "encoder.layer."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    # The token of a distilled DeiT without a head of its own only takes part in attention: a
    # register.
    (r"^embeddings\.distillation_token$", "embeddings.register_tokens"),
)
_FORBIDDEN = {
    r"distillation_classifier\.": "a distillation head (distilled DeiT)",
    r"\.mlp\.(weights_in|gate_proj)\.": "SwiGLU in its MLPs",
}


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    renamed = {}
    for name, array in arrays.items():
        if not name.startswith("decoder."):
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
        renamed[name] = array
    return renamed


def _describe(arrays: Arrays, known: Known) -> Description:
    width, channels, *patch = vit_parts.patches(arrays, _PATCHES)
    classes = arrays.get("classifier.weight", np.zeros((0, width)))
    registers = arrays.get("embeddings.register_tokens", np.zeros((1, 0, width)))
    token = "embeddings.cls_token" in arrays
    # Registers of DINOv2 have no position; the distillation token of DeiT has one.
    scaled = f"{_BLOCK}.layer_scale1.lambda1" in arrays
    # The values in the configurations of DINOv2, and of the others.
    epsilon = 1e-6 if scaled else 1e-12
    found = vit_parts.describe(
        width=width,
        depth=count(arrays, r"encoder\.layer\.(\d+)\."),
        mlp_width=len(arrays[f"{_BLOCK}.mlp.fc1.weight"]),
        patch=patch,
        channels=channels,
        known=known,
        positions=arrays.get("embeddings.position_embeddings"),
        class_token=token,
        positioned=(int(token) + (0 if scaled else registers.shape[1]),),
        registers=registers.shape[1],
        # transformers smooths the positions of Dinov2WithRegisters alone.
        interpolation="bicubic" if scaled and registers.shape[1] else "bicubic_plain",
        num_classes=len(classes),
        pooling="token_and_mean" if classes.shape[1] == 2 * width else None,
        norm_epsilon=epsilon,
        layer_scale=1e-5 if scaled else None,
        qkv_bias=vit_parts.has_array(arrays, r"encoder\.layer\.\d+\.attention\.[qkv]_proj\.bias"),
    )
    words = f"no array shows layer_norm_eps of its config.json; it is taken to be {epsilon}"
    return dataclasses.replace(found, guessed={**found.guessed, "norm_epsilon": words})


def _entries(module: ViT, arrays: Arrays | None, grid: vit_parts.Grid = None) -> list[Entry]:
    entries = vit_parts.tokens(module, _TOKENS, arrays, grid)
    entries += convolution("patch_embedding", "embeddings.patch_embeddings.projection", bias=True)
    for i in range(module.depth):
        ours, theirs = f"encoder/block_{i}", f"encoder.layer.{i}"
        entries += norm(f"{ours}/norm1", f"{theirs}.norm1")
        for name in ("query", "key", "value"):
            part = f"{theirs}.attention.{name[0]}_proj."
            layer = [f"{ours}/attention/{name}"]
            entries += vit_parts.fused(layer, part, arrays, bias=module.qkv_bias)
        entries += dense(f"{ours}/attention/out", f"{theirs}.attention.o_proj")
        entries += norm(f"{ours}/norm2", f"{theirs}.norm2")
        entries += dense(f"{ours}/mlp/dense1", f"{theirs}.mlp.fc1")
        entries += dense(f"{ours}/mlp/dense2", f"{theirs}.mlp.fc2")
        if module.layer_scale is not None:
            for number in "12":
                scale = f"params/{ours}/layer_scale{number}/scale"
                entries += same(scale, f"{theirs}.layer_scale{number}.lambda1")
    entries += norm("encoder_norm", "layernorm")
    return entries + dense("head", "classifier", optional=True)


class TransformersCard(CardReader):
    """The cards of transformers."""

    key = "model_type"

    def fields(self, card: Card, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Heads, epsilon and GELU."""
        found: dict[str, Any] = {}
        if (heads := card.config.get("num_attention_heads")) is not None:
            found["num_heads"] = vit_parts.card_heads("num_attention_heads", heads)
        if (epsilon := card.config.get("layer_norm_eps")) is not None:
            if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
                raise invalid("layer_norm_eps", epsilon, "a number between 0 and 1")
            found["norm_epsilon"] = epsilon
        if (activation := card.config.get("hidden_act")) is not None:
            found["gelu"] = vit_parts.card_gelu("hidden_act", activation)
        return found

    def sides(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        """As `CardReader.sides`."""
        return card.config.get("image_size"), card.config.get("patch_size")

    def normalization(self, card: Card) -> tuple[Any, Any]:
        """As `CardReader.normalization`."""
        if card.preprocessor.get("do_normalize") is False:
            return None, None
        return card.preprocessor.get("image_mean"), card.preprocessor.get("image_std")


LAYOUTS = (
    Layout(
        name="huggingface",
        modules=(ViT,),
        source="ViT, DeiT, DINOv2 and ViTMAE of Hugging Face's transformers",
        required=(
            r"embeddings\.patch_embeddings\.projection\.weight",
            r"encoder\.layer\.0\.attention\.q_proj\.weight",
        ),
        forbidden=_FORBIDDEN,
        describe=_describe,
        entries=_entries,
        prepare=_prepare,
        ignored=(r"embeddings\.mask_token$", r"pooler\."),
        companions=(r"decoder\.",),
        card=TransformersCard(),
    ),
)
