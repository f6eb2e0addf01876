"""What ``config.json`` of timm says of a network, as the registry of timm 1.0.31 has it."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.card import CONFIG, Card, CardReader, invalid, section
from vitjax.weights.layouts.vit_parts import card_gelu, card_heads

# Networks that compute something else than those with the same names and shapes.
_REFUSED = {
    r"^resnetaa\d": "averages before its strided convolutions (anti-aliasing)",
    r"^resnetblur\d": "blurs before its strided convolutions (anti-aliasing)",
    r"_rpn_": "normalises after each branch and not before",
    r"_rope_|^vit_pe_|^qwen3_vit": "has rotary positions",
}
# Arguments of timm's models that arrays show, or that matter in training alone.
_SHOWN = frozenset(
    {
        *("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "mlp_ratio"),
        *("qkv_bias", "proj_bias", "qk_norm", "class_token", "reg_tokens", "no_embed_class"),
        *("pos_embed", "init_values", "fc_norm", "pre_norm", "weight_init", "fix_init"),
        *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "patch_drop_rate"),
        *("drop_rate", "drop_path_rate", "drop_block_rate", "pos_drop_rate", "proj_drop_rate"),
        *("attn_drop_rate", "zero_init_last", "block", "layers", "channels", "base_width"),
        *("stem_width", "cardinality", "stem_type", "avg_down", "block_reduce_first"),
        *("stem_chs", "bottle_ratio"),
    }
)
# Values of other arguments with which a network is what its arrays look like.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "output_stride": (32,),
    "aa_layer": (None, ""),
    "norm_layer": (None, "layernorm", "batchnorm2d", "groupnorm"),
}
_TANH = re.compile(
    r"^vit_(so400m_patch16|giantopt_patch16|base_patch32)_siglip"
    r"|^vit_large_patch16_siglip_(gap_)?512"
)
_HEADS = {
    r"^vit_base_patch16_gap_224": 16,
    r"^vit_giantopt_": 16,
    r"^test_vit2?$": 2,
    r"^test_vit[34]$": 3,
}
_POOLINGS = {"token": "token", "avg": "mean", "map": "map"}
# The arrays of a pooling by attention, and of the tokens before the patches.
PROBE = "attn_pool.latent"
_PREFIX_TOKENS = ("cls_token", "reg_token", "register_tokens")
# Names whose networks pool these tokens too.
_INCLUDES_PREFIX = re.compile(r"^test_vit3$")


class TimmCard(CardReader):
    """The cards of timm."""

    key = "architecture"

    def fields(self, card: Card, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """As `CardReader.fields`."""
        name = str(card.config["architecture"])
        for pattern, words in _REFUSED.items():
            if re.search(pattern, name):
                raise WeightsError(
                    f"{CONFIG} beside it says that this is timm's {name!r}, which {words}"
                )
        arguments = dict(section(card.config, "model_args"))
        keys = ("act_layer", "num_heads", "pool_include_prefix")
        read = {key: arguments.pop(key, None) for key in keys}
        pooling = arguments.pop("global_pool", card.config.get("global_pool"))
        for key, value in arguments.items():
            if key not in _SHOWN and value not in _PLAIN.get(key, ()):
                right = "left to its default: vitjax has no such network"
                raise invalid(f"model_args.{key}", value, right)
        return self.fields_of(name, pooling, arrays, **read)

    @abc.abstractmethod
    def fields_of(
        self,
        name: str,
        pooling: Any,
        arrays: Mapping[str, np.ndarray],
        *,
        act_layer: Any,
        num_heads: Any,
        pool_include_prefix: Any,
    ) -> dict[str, Any]:
        """Fields from a registered name and from arguments; None if an argument is not given."""

    def sides(self, card: Card, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        """As `CardReader.sides`, with the patches of the file's kernel."""
        kernel = arrays.get("patch_embed.proj.weight")
        size = section(card.config, "model_args").get("img_size")
        if size is None:
            size = section(card.config, "pretrained_cfg").get("input_size")
            size = size[1:] if isinstance(size, list) else size
        return size, None if kernel is None else list(kernel.shape[2:])

    def normalization(self, card: Card) -> tuple[Any, Any]:
        """As `CardReader.normalization`."""
        images = section(card.config, "pretrained_cfg")
        return images.get("mean"), images.get("std")


class TimmViTCard(TimmCard):
    """The cards of timm's Vision Transformers."""

    def fields_of(
        self,
        name: str,
        pooling: Any,
        arrays: Mapping[str, np.ndarray],
        *,
        act_layer: Any,
        num_heads: Any,
        pool_include_prefix: Any,
    ) -> dict[str, Any]:
        """GELU, heads and pooling."""
        found: dict[str, Any] = {"gelu": "tanh" if _TANH.search(name) else "exact"}
        if "quickgelu" in name:
            found["gelu"] = "quick"
        if act_layer is not None:
            found["gelu"] = card_gelu("model_args.act_layer", act_layer)
        for pattern, heads in _HEADS.items():
            if re.search(pattern, name):
                found["num_heads"] = heads
        if num_heads is not None:
            found["num_heads"] = card_heads("model_args.num_heads", num_heads)
        if pooling not in (None, ""):
            if not isinstance(pooling, str) or pooling not in _POOLINGS:
                raise invalid("global_pool", pooling, f"one of {', '.join(_POOLINGS)}")
            found["pooling"] = _POOLINGS[pooling]
        elif PROBE in arrays:
            found["pooling"] = "map"
        if pool_include_prefix is None:
            pool_include_prefix = bool(_INCLUDES_PREFIX.search(name))
        _check_pooled(found.get("pooling"), arrays, pool_include_prefix)
        return found


class TimmConvNetCard(TimmCard):
    """The cards of timm's convolutional networks."""

    def fields_of(
        self,
        name: str,
        pooling: Any,
        arrays: Mapping[str, np.ndarray],
        *,
        act_layer: Any,
        num_heads: Any,
        pool_include_prefix: Any,
    ) -> dict[str, Any]:
        """Nothing: the shapes say everything of the networks that vitjax has."""
        if act_layer not in (None, "relu"):
            raise invalid("model_args.act_layer", act_layer, "'relu'")
        if num_heads is not None:
            raise invalid("model_args.num_heads", num_heads, "left out: a CNN has no heads")
        if pooling not in (None, "", "avg"):
            raise invalid("global_pool", pooling, "'avg'")
        if pool_include_prefix is not None:
            words = "left out: this network has no tokens"
            raise invalid("model_args.pool_include_prefix", pool_include_prefix, words)
        return {}


def has_prefix_tokens(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a file has a class token or registers."""
    return any(name in arrays for name in _PREFIX_TOKENS)


def _check_pooled(pooling: str | None, arrays: Mapping[str, np.ndarray], included: Any) -> None:
    """Raises WeightsError unless a network pools the tokens that vitjax's ViT pools.

    vitjax's attention pools all tokens, and its mean those of the patches.
    """
    if pooling not in ("map", "mean") or not has_prefix_tokens(arrays):
        return
    right = pooling == "map"
    if included is not right:
        words = (
            f"{json.dumps(right)}: vitjax's pooling={pooling!r}"
            f" {'reads' if right else 'leaves out'} the class token and registers"
        )
        raise invalid("model_args.pool_include_prefix", included, words)
