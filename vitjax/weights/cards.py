"""What lies beside weights in a repository of Hugging Face, and no array tells."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitjax.models.vit import ViT
from vitjax.weights import sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files
from vitjax.weights.layouts import Arrays, Description, Layout

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILES = (CONFIG, PREPROCESSOR)

# What other projects call the two forms of GELU that a ViT here may have.
_GELUS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_tanh": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_fast": "tanh",
}
# timm's networks that compute otherwise than those whose names and shapes their arrays share, as
# its registry of version 1.0.31 has them.
_TIMM_REFUSED = (
    (r"^resnetaa\d", "averages before its strided convolutions (anti-aliasing)"),
    (r"^resnetblur\d", "blurs before its strided convolutions (anti-aliasing)"),
    (r"_rpn_", "normalises after each branch and not before"),
    (r"quickgelu", "has QuickGELU in its MLPs"),
    (r"_rope_", "has rotary positions"),
)
_TIMM_TANH = re.compile(
    r"^vit_(so400m_patch16|giantopt_patch16|base_patch32)_siglip"
    r"|^vit_large_patch16_siglip_(gap_)?512"
)
_TIMM_HEADS = {
    r"^vit_base_patch16_gap_224": 16,
    r"^vit_giantopt_": 16,
    r"^test_vit2?$": 2,
    r"^test_vit[34]$": 3,
}
_TIMM_POOLINGS = {"token": "token", "avg": "mean", "map": "map"}
# Arguments of timm's models that arrays show, or that matter in training alone.
_TIMM_SHOWN = frozenset(
    {
        *("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "mlp_ratio"),
        *("qkv_bias", "proj_bias", "qk_norm", "class_token", "reg_tokens", "no_embed_class"),
        *("pos_embed", "init_values", "fc_norm", "pre_norm", "weight_init", "fix_init"),
        *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "patch_drop_rate"),
        *("drop_rate", "drop_path_rate", "drop_block_rate", "pos_drop_rate", "proj_drop_rate"),
        *("attn_drop_rate", "zero_init_last", "block", "layers", "channels", "base_width"),
        *("stem_width", "cardinality", "stem_type", "avg_down", "block_reduce_first"),
    }
)
# Of the others, the values with which a network is what its arrays look like.
_TIMM_PLAIN: dict[str, tuple[Any, ...]] = {
    "pool_include_prefix": (False,),
    "output_stride": (32,),
    "aa_layer": (None, ""),
    "norm_layer": (None, "layernorm", "batchnorm2d"),
}


@dataclasses.dataclass(frozen=True)
class Card:
    """What is told beside a file.

    Attributes:
        config: of the network, as JSON.
        mean: of the images that it was trained on, on a scale from 0 to 1, by channel; None where
            nothing tells it.
        std: their standard deviation likewise.
    """

    config: Mapping[str, Any]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def grid(self, arrays: Arrays) -> tuple[int, int] | None:
        """(rows, columns) of patches, where they are told and make no square.

        Args:
            arrays: of the file, prepared by its layout.

        Raises:
            WeightsError: there are no such images or patches.
        """
        patch, size = self.config.get("patch_size"), self.config.get("image_size")
        if "architecture" in self.config:
            kernel = arrays.get("patch_embed.proj.weight")
            patch = None if kernel is None else list(kernel.shape[2:])
            size = _section(self.config, "model_args").get("img_size")
            if size is None:
                size = _section(self.config, "pretrained_cfg").get("input_size")
                size = size[1:] if isinstance(size, list) else size
        if patch is None or size is None:
            return None
        pixels = sizes.pair(size, f"{CONFIG} beside it: image_size")
        patches = sizes.pair(patch, f"{CONFIG} beside it: patch_size")
        rows, columns = (int(side // own) for side, own in zip(pixels, patches, strict=True))
        return None if rows == columns else (rows, columns)

    def describe(self, layout: Layout, found: Description) -> Description:
        """What a file's shapes tell, and what the card knows better.

        Args:
            layout: whose names the file's are.
            found: by its shapes.

        Raises:
            WeightsError: the network is one that is not here, though all names and shapes are.
        """
        told: dict[str, Any] = {}
        if "model_type" in self.config and layout.name == "huggingface":
            told = self._of_transformers()
        elif "architecture" in self.config and layout.name in ("timm", "torchvision"):
            told = self._of_timm(ViT in layout.modules)
        guessed = {k: words for k, words in found.guessed.items() if k not in told}
        return dataclasses.replace(found, fields={**found.fields, **told}, guessed=guessed)

    def _of_transformers(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if (heads := self.config.get("num_attention_heads")) is not None:
            told["num_heads"] = _heads("num_attention_heads", heads)
        if (epsilon := self.config.get("layer_norm_eps")) is not None:
            if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
                raise _odd("layer_norm_eps", epsilon, "a number between 0 and 1")
            told["norm_epsilon"] = epsilon
        if (act := self.config.get("hidden_act")) is not None:
            told["gelu"] = _gelu("hidden_act", act)
        return told

    def _of_timm(self, is_vit: bool) -> dict[str, Any]:
        name = str(self.config["architecture"])
        for pattern, words in _TIMM_REFUSED:
            if re.search(pattern, name):
                raise WeightsError(
                    f"{CONFIG} beside it says that this is timm's {name!r}, which {words}"
                )
        arguments = dict(_section(self.config, "model_args"))
        act = arguments.pop("act_layer", None)
        heads = arguments.pop("num_heads", None)
        pooling = arguments.pop("global_pool", self.config.get("global_pool"))
        for key, value in arguments.items():
            if key not in _TIMM_SHOWN and value not in _TIMM_PLAIN.get(key, ()):
                raise _odd(
                    f"model_args.{key}", value, "left to its default: vitjax has no such network"
                )
        if not is_vit:
            if act not in (None, "relu"):
                raise _odd("model_args.act_layer", act, "'relu'")
            if pooling not in (None, "", "avg"):
                raise _odd("global_pool", pooling, "'avg'")
            return {}
        told: dict[str, Any] = {"gelu": "tanh" if _TIMM_TANH.search(name) else "exact"}
        if act is not None:
            told["gelu"] = _gelu("model_args.act_layer", act)
        for pattern, number in _TIMM_HEADS.items():
            if re.search(pattern, name):
                told["num_heads"] = number
        if heads is not None:
            told["num_heads"] = _heads("model_args.num_heads", heads)
        if pooling not in (None, ""):
            if not isinstance(pooling, str) or pooling not in _TIMM_POOLINGS:
                raise _odd("global_pool", pooling, f"one of {', '.join(_TIMM_POOLINGS)}")
            told["pooling"] = _TIMM_POOLINGS[pooling]
        return told


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _odd(name: str, value: Any, right: str) -> WeightsError:
    shown = json.dumps(value)
    shown = shown if len(shown) < 60 else f"{shown[:60]}..."
    return WeightsError(f"{CONFIG} beside it: {name} is {shown}; it should be {right}")


def _heads(name: str, value: Any) -> int:
    return sizes.whole(value, 1, f"{CONFIG} beside it: {name}")[0]


def _gelu(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in _GELUS:
        raise _odd(name, value, f"a GELU, as a ViT here has it: {', '.join(_GELUS)}")
    return _GELUS[value]


def read(path: Path, say: Callable[[str], None]) -> Card:
    """The card of a file of weights; an empty one where nothing lies beside it.

    Args:
        path: of the weights.
        say: is told of a file beside it that cannot be read.
    """
    if path.name not in files.IN_FOLDERS:
        return Card({})  # a config.json there is of something else
    config = _json(path.parent / CONFIG, say)
    if not {"model_type", "architecture"} & set(config):
        return Card({})
    if "architecture" in config:
        images = _section(config, "pretrained_cfg")
        return Card(config, _numbers(images.get("mean")), _numbers(images.get("std")))
    images = _json(path.parent / PREPROCESSOR, say)
    if images.get("do_normalize") is False:
        return Card(config)
    return Card(config, _numbers(images.get("image_mean")), _numbers(images.get("image_std")))


def _json(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        say(f"{path}: cannot be read ({type(error).__name__}: {error}); going by shapes alone")
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(values: Any) -> tuple[float, ...] | None:
    if isinstance(values, Sequence) and all(type(value) in (int, float) for value in values):
        return tuple(float(value) for value in values) or None
    return None
