"""timm's ``config.json``, from which ``timm.create_model("local-dir:...")`` makes a network."""

from __future__ import annotations

import math
from typing import Any

from vitjax.data.transforms.color import Grayscale, GrayToRgb
from vitjax.data.transforms.geometry import CenterCrop, Resize
from vitjax.models.protocol import Model
from vitjax.models.resnet import ResNet
from vitjax.models.vit import ViT
from vitjax.weights.layouts.target import Code, Construction
from vitjax.weights.preprocessing import Preprocessing

_POOLINGS = {"mean": "avg", "token": "token", "map": "map"}
# timm's names of the interpolations that Pillow has.
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def config(
    construction: Construction,
    model: Model,
    images: Preprocessing,
    parts: tuple[str, str] | None = None,
) -> tuple[dict[str, Any] | None, list[str]]:
    """The content of the file, None if it cannot state the network; and what it cannot state.

    Args:
        construction: the call of timm's code.
        model: the module.
        images: its preprocessing.
        parts: the names of the first convolution and of the head; None for ViTs and ResNets.
    """
    code = [name for name, value in construction.arguments.items() if isinstance(value, Code)]
    if code or construction.call != "timm.create_model":
        what = " and ".join(code) or construction.call
        return None, [f"config.json is left out, because it cannot state {what} of this network"]
    (name,) = construction.positional
    arguments = dict(construction.arguments)
    del arguments["num_classes"]
    height, width, channels = images.shape
    first, head = parts or _parts(model)
    rule, remarks = _rule(images)
    classes = model.num_outputs
    found: dict[str, Any] = {"architecture": name, "num_classes": classes}
    found["global_pool"] = _POOLINGS[model.pooling] if isinstance(model, ViT) else "avg"
    if images.class_names is not None and len(images.class_names) == classes:
        found["label_names"] = list(images.class_names)
    found["model_args"] = arguments
    found["pretrained_cfg"] = {
        "input_size": [channels, height, width],
        "fixed_input_size": isinstance(model, ViT),
        **rule,
        "mean": list(images.mean),
        "std": list(images.std),
        "num_classes": classes,
        "pool_size": None,
        "first_conv": first,
        "classifier": head,
        "custom_load": False,
    }
    return found, remarks


def _parts(model: Model) -> tuple[str, str]:
    """The names of the first convolution and of the head."""
    if isinstance(model, ResNet):
        return ("stem.conv", "head.fc") if model.preactivation else ("conv1", "fc")
    return "patch_embed.proj", "head"


def _rule(images: Preprocessing) -> tuple[dict[str, Any], list[str]]:
    """The rule of resizing and cropping in timm, and a remark if it is not that of the run."""
    rule = None if images.any_size else _exact_rule(images)
    if rule is not None:
        return rule, []
    return {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"}, [
        "timm's transforms cannot be those of this run, and config.json states a plain resizing;"
        " preprocess.json is exact"
    ]


def _exact_rule(images: Preprocessing) -> dict[str, Any] | None:
    # Files are read with the model's channels, so changes of their number do nothing.
    steps = [step for step in images.steps if not isinstance(step, GrayToRgb | Grayscale)]
    squashed = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"}
    if not steps:
        return squashed
    resize, *others = steps
    if not isinstance(resize, Resize) or resize.interpolation not in _INTERPOLATIONS:
        return None
    squashed["interpolation"] = resize.interpolation
    height, width, _ = images.shape
    crops = [each for each in others if isinstance(each, CenterCrop)]
    if len(crops) != len(others) or len(crops) > 1:
        return None
    if not crops or resize.size == (height, width):
        return squashed
    if not isinstance(resize.size, int) or height != width or resize.size < height:
        return None
    fraction = height / resize.size
    if math.floor(height / fraction) != resize.size:  # as timm rounds
        fraction = height / (resize.size + 0.5)
    return {"interpolation": resize.interpolation, "crop_pct": fraction, "crop_mode": "center"}
