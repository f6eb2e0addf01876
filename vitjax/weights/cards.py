"""What lies beside weights in a repository of Hugging Face, and no array tells."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitjax.models.vit import ViT
from vitjax.weights import files
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import Description, Layout

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILES = (CONFIG, PREPROCESSOR)

# What transformers calls the two forms of GELU that a ViT here may have.
_GELUS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
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
)
_TIMM_TANH = re.compile(
    r"^vit_(so400m_patch16|giantopt_patch16|base_patch32)_siglip"
    r"|^vit_large_patch16_siglip_(gap_)?512"
)
_TIMM_HEADS = {r"^vit_base_patch16_gap_224": 16, r"^vit_giantopt_": 16}


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

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of images, where transformers tells it."""
        size = self.config.get("image_size") if "model_type" in self.config else None
        pair = (size, size) if type(size) is int else size
        if isinstance(pair, list | tuple) and [type(side) for side in pair] == [int, int]:
            return pair[0], pair[1]
        return None

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
            told = self._of_timm(str(self.config["architecture"]))
            told = told if ViT in layout.modules else {}
        guessed = {k: words for k, words in found.guessed.items() if k not in told}
        return dataclasses.replace(found, fields={**found.fields, **told}, guessed=guessed)

    def _of_transformers(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for ours, theirs, kind in (
            ("num_heads", "num_attention_heads", int),
            ("norm_epsilon", "layer_norm_eps", (int, float)),
        ):
            if theirs in self.config:
                value = self.config[theirs]
                if not isinstance(value, kind) or isinstance(value, bool) or value <= 0:
                    raise WeightsError(f"{CONFIG} beside it says {theirs} = {value!r}")
                told[ours] = value
        if "hidden_act" in self.config:
            name = self.config["hidden_act"]
            if name not in _GELUS:
                raise WeightsError(
                    f"{CONFIG} beside it says hidden_act = {name!r}, and a ViT here has a GELU:"
                    f" {', '.join(_GELUS)}"
                )
            told["gelu"] = _GELUS[name]
        return told

    @staticmethod
    def _of_timm(name: str) -> dict[str, Any]:
        for pattern, words in _TIMM_REFUSED:
            if re.search(pattern, name):
                raise WeightsError(
                    f"{CONFIG} beside it says that it is timm's {name!r}, which {words}"
                )
        told: dict[str, Any] = {"gelu": "tanh" if _TIMM_TANH.search(name) else "exact"}
        for pattern, heads in _TIMM_HEADS.items():
            if re.search(pattern, name):
                told["num_heads"] = heads
        return told


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
    images = config.get("pretrained_cfg") if "architecture" in config else None
    if isinstance(images, dict):
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
