"""Which Vision Transformers the constructors of other projects make, and with which arguments."""

from __future__ import annotations

from typing import Any

from vitjax.models.vit import ViT
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import require
from vitjax.weights.layouts.target import (
    Code,
    Construction,
    Written,
    check_fields,
    needs_head,
    refuse,
)

_EPSILON = 1e-6  # of timm's, torchvision's and Google's ViTs

# The fields of a ViT that are regarded here.
_FIELDS = frozenset(
    {
        *("width", "depth", "num_heads", "mlp_width", "patch_size", "num_classes", "pooling"),
        *("class_token", "class_position", "positions", "registers", "representation_size"),
        *("layer_scale", "qk_norm", "qkv_bias", "fc_norm", "norm_epsilon", "gelu"),
        "position_stddev",
    }
)
# timm's names of activations; None for its default.
_TIMM_GELU = {"exact": None, "tanh": "gelu_tanh"}
# Names of timm by width, depth, heads and patch; each of them has an MLP of four times the width.
_TIMM: dict[tuple[int, int, int, int | None], str] = {
    (192, 12, 3, 16): "vit_tiny_patch16_224",
    (384, 12, 6, 8): "vit_small_patch8_224",
    (384, 12, 6, 16): "vit_small_patch16_224",
    (384, 12, 6, 32): "vit_small_patch32_224",
    (768, 12, 12, 8): "vit_base_patch8_224",
    (768, 12, 12, 16): "vit_base_patch16_224",
    (768, 12, 12, 32): "vit_base_patch32_224",
    (1024, 24, 16, 14): "vit_large_patch14_224",
    (1024, 24, 16, 16): "vit_large_patch16_224",
    (1024, 24, 16, 32): "vit_large_patch32_224",
    (1280, 32, 16, 14): "vit_huge_patch14_224",
}
# timm's default arguments.
_DEFAULT = "vit_base_patch16_224"


def timm(module: ViT, written: Written) -> Construction:
    """``timm.create_model`` with the arguments of timm's ``VisionTransformer``."""
    check_fields("timm", module, _FIELDS)
    require(module, "timm", representation_size=None)
    if module.gelu not in _TIMM_GELU:
        raise WeightsError(f"timm is not known to have gelu={module.gelu!r}")
    if module.pooling == "token_and_mean":
        raise WeightsError("timm has no pooling='token_and_mean'")
    name = _TIMM.get((module.width, module.depth, module.num_heads, _side(module)))
    arguments: dict[str, Any] = {"num_classes": module.num_outputs, "in_chans": written.channels}
    sides = _sides("timm", module, written)
    if sides is not None:
        arguments["img_size"] = sides[0] if sides[0] == sides[1] else list(sides)
    if name is None:
        arguments["patch_size"] = _side(module) or list(module.patch)
        arguments |= {"embed_dim": module.width, "depth": module.depth}
        arguments["num_heads"] = module.num_heads
    if (hidden := module.mlp_width or 4 * module.width) != 4 * module.width:
        arguments["mlp_ratio"] = _ratio(hidden, module.width)
    pooling = {"mean": "avg"}.get(module.pooling, module.pooling)
    if pooling != "token":
        arguments["global_pool"] = pooling
    if not module.has_class_token:
        arguments["class_token"] = False
    if module.registers:
        arguments["reg_tokens"] = module.registers
    own_row = module.positions == "learned" and module.class_position and module.has_class_token
    if module.prefix_tokens and module.positions != "none" and not own_row:
        arguments["no_embed_class"] = True
    if module.positions == "none":
        arguments["pos_embed"] = "none"
    if module.pooling == "map" and module.prefix_tokens:
        arguments["pool_include_prefix"] = True
    if module.fc_norm != (module.pooling == "mean"):
        arguments["fc_norm"] = module.fc_norm
    if module.layer_scale is not None:
        arguments["init_values"] = module.layer_scale or 1e-5  # which only has to be above 0
    if module.qk_norm:
        arguments["qk_norm"] = True
    if not module.qkv_bias:
        arguments["qkv_bias"] = False
    if (activation := _TIMM_GELU[module.gelu]) is not None:
        arguments["act_layer"] = activation
    imports = ["import timm"]
    if module.norm_epsilon != _EPSILON:
        layer = f"partial(timm.layers.LayerNorm, eps={module.norm_epsilon})"
        arguments["norm_layer"] = Code(layer)
        imports = ["from functools import partial", *imports]
    return Construction("timm.create_model", (name or _DEFAULT,), arguments, imports)


def torchvision(module: ViT, written: Written) -> Construction:
    """``torchvision.models.VisionTransformer``: square RGB images, a class token and a head."""
    check_fields("torchvision", module, _FIELDS)
    fields: dict[str, Any] = {"pooling": "token", "gelu": "exact", "fc_norm": False}
    fields |= {"registers": 0, "qk_norm": False, "qkv_bias": True, "layer_scale": None}
    require(module, "torchvision", **fields)
    if module.positions == "none" or _side(module) is None:
        raise WeightsError("torchvision has only ViTs with positions and square patches")
    needs_head("torchvision", module)
    refuse("torchvision", module, {"channels of images": (written.channels, 3)})
    sides = _sides("torchvision", module, written)
    if sides is not None and sides[0] != sides[1]:
        raise WeightsError(
            f"torchvision's ViT takes square images, and this one takes {sides[0]} x {sides[1]}"
        )
    arguments: dict[str, Any] = {} if sides is None else {"image_size": sides[0]}
    arguments |= {
        "patch_size": _side(module),
        "num_layers": module.depth,
        "num_heads": module.num_heads,
        "hidden_dim": module.width,
        "mlp_dim": module.mlp_width or 4 * module.width,
        "num_classes": module.num_outputs,
    }
    if module.representation_size is not None:
        arguments["representation_size"] = module.representation_size
    imports = ["import torchvision"]
    if module.norm_epsilon != _EPSILON:
        arguments["norm_layer"] = Code(f"partial(nn.LayerNorm, eps={module.norm_epsilon})")
        imports = ["from functools import partial", *imports, "from torch import nn"]
    return Construction("torchvision.models.VisionTransformer", (), arguments, imports)


def vision_transformer(module: ViT, written: Written) -> Construction:
    """``vit_jax.models.VisionTransformer`` of google-research/vision_transformer."""
    _google(module, ("token", "mean"))
    _sides("vision_transformer", module, written)
    arguments = {
        "num_classes": module.num_outputs,
        "patches": Code(f"ml_collections.ConfigDict({{'size': {module.patch}}})"),
        "hidden_size": module.width,
        "transformer": {
            "num_layers": module.depth,
            "num_heads": module.num_heads,
            "mlp_dim": module.mlp_width or 4 * module.width,
            "dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
        },
        "classifier": "gap" if module.pooling == "mean" else "token",
        "representation_size": module.representation_size,
    }
    imports = ["import ml_collections", "from vit_jax import checkpoint, models"]
    load = [
        "params = checkpoint.load(str(PATH))",
        "# logits = model.apply({'params': params}, images, train=False)",
    ]
    return Construction("models.VisionTransformer", (), arguments, imports, load)


def big_vision(module: ViT, written: Written) -> Construction:
    """``big_vision.models.vit.Model``."""
    _google(module, ("token", "mean", "map"))
    arguments = {
        "num_classes": module.num_outputs or None,
        "patch_size": module.patch,
        "width": module.width,
        "depth": module.depth,
        "mlp_dim": module.mlp_width or 4 * module.width,
        "num_heads": module.num_heads,
        "posemb": "sincos2d" if module.positions == "sincos2d" else "learn",
        "rep_size": module.representation_size or False,
        "pool_type": {"token": "tok", "mean": "gap"}.get(module.pooling, module.pooling),
    }
    imports = ["from big_vision import utils", "from big_vision.models import vit"]
    load = [
        "params = utils.load_params(str(PATH))",
        "# logits, _ = model.apply({'params': params}, images)",
    ]
    return Construction("vit.Model", (), arguments, imports, load)


def _google(module: ViT, poolings: tuple[str, ...]) -> None:
    """Raises WeightsError unless Google's code makes such a network."""
    check_fields("Google's code", module, _FIELDS)
    fields = {"fc_norm": False, "gelu": "tanh", "norm_epsilon": _EPSILON, "registers": 0}
    require(module, "Google's code", **fields, qk_norm=False, qkv_bias=True, layer_scale=None)
    if module.pooling not in poolings:
        raise WeightsError(f"its code has no pooling={module.pooling!r}")
    if module.has_class_token != (module.pooling == "token"):
        raise WeightsError("its code has a class token only for pooling='token'")
    if module.positions == "none":
        raise WeightsError("its code has no networks without positions")


def _side(module: ViT) -> int | None:
    """The side of square patches; None for others."""
    height, width = module.patch
    return height if height == width else None


def _sides(project: str, module: ViT, written: Written) -> tuple[int, int] | None:
    """(height, width) of images; None if they are unknown and nothing depends on them.

    Raises:
        WeightsError: positions depend on them.
    """
    if written.sides is None and module.positions != "none":
        raise WeightsError(
            f"{project} stores positions, and positions={module.positions!r} are computed from the"
            " size of the images: set input_shape=(height, width, channels)"
        )
    return written.sides


def _ratio(hidden: int, width: int) -> float:
    """The ratio of widths that timm multiplies by ``width`` and rounds down to ``hidden``."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width
