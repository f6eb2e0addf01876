"""Small and odd networks that timm's code makes, which scripts/parity/write_exports.py writes.

fixtures/exports_timm.json has what timm 1.0.31 made of their files: the call, the names and shapes
of its arrays, and logits.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import models

_VIT = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4, "num_classes": 3}
_V1 = {"stage_sizes": (1, 1, 1, 1), "width": 4, "stem_width": 64, "num_classes": 3}
_V2 = {"stage_sizes": (1, 1), "width": 8, "num_classes": 3, "preactivation": True}
_BIT = {
    **{**_V2, "norm": "group", "norm_groups": 4},
    **{"standardize_epsilon": 1e-6, "zero_pool": True},
}
_SMALL, _WIDE, _GREY = (12, 12, 3), (8, 12, 3), (8, 8, 1)
_PIXELS = (32, 32, 3)


def _vit(shape: Any = _SMALL, **fields: Any) -> tuple[Any, Any]:
    return models.ViT(**{**_VIT, **fields}), shape


def _resnet(base: Any, shape: Any = _PIXELS, **fields: Any) -> tuple[Any, Any]:
    return models.ResNet(**{**base, **fields}), shape


CASES: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "vit_token": _vit(),
    "vit_wide": _vit(_WIDE, layer_scale=0.1, qk_norm=True),
    "vit_without_qkv_bias": _vit(qkv_bias=False, position_stddev=0.0),
    "vit_grey_tanh": _vit(_GREY, gelu="tanh", norm_epsilon=1e-5),
    "vit_mean": _vit(pooling="mean", fc_norm=True),
    "vit_mean_normed_before": _vit(pooling="mean", class_token=True, mlp_width=13),
    "vit_map": _vit(pooling="map", mlp_width=12),
    "vit_map_over_all_tokens": _vit(pooling="map", class_token=True, registers=2),
    "vit_token_normed_after": _vit(fc_norm=True, class_position=False),
    "vit_registers": _vit(registers=2),
    "vit_registers_alone": _vit(pooling="mean", registers=3),
    "vit_registers_without_class_position": _vit(registers=1, class_position=False),
    "vit_computed": _vit(_WIDE, positions="sincos2d"),
    "vit_without_positions": _vit(positions="none", registers=1),
    "vit_odd_patches": _vit(_WIDE, patch_size=(4, 2), num_heads=4, num_classes=0),
    "resnet_narrow": _resnet(_V1, block="basic"),
    "resnet_bottleneck": _resnet(_V1, shape=(32, 32, 1), stage_sizes=(1, 2, 1, 1)),
    "resnet_wide": _resnet(_V1, bottleneck_factor=2, num_classes=None),
    "resnet_groups": _resnet(_V1, norm="group", norm_groups=4),
    "resnet_32_groups": _resnet(_V1, norm="group", width=32, block="basic"),
    "v2_basic": _resnet(_V2, block="basic", stem_width=16, stage_sizes=(2, 1, 1)),
    "v2_bottleneck": _resnet(_V2, stem_width=None, shape=(32, 32, 1)),
    "v2_wide": _resnet(_V2, bottleneck_factor=2, stem_width=64, num_classes=0),
    "bit": _resnet(_BIT),
    "bit_basic": _resnet(_BIT, block="basic", standardize_epsilon=1e-8, norm_groups=8),
}


def made(name: str) -> tuple[Any, Any, Any, np.ndarray]:
    """The network, its shape of images, its variables and two images."""
    module, shape = CASES[name]
    example = jnp.zeros((1, *shape))
    shapes: Any = jax.eval_shape(module.init, jax.random.key(0), example)
    rng = np.random.default_rng(0)

    def drawn(path: Any, leaf: Any) -> np.ndarray:
        values = rng.normal(size=leaf.shape) * (0.3 if path[-1].key == "kernel" else 1)
        values = 0.5 + np.abs(values) if path[-1].key in ("var", "scale") else values
        return np.asarray(values, np.float32)

    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    return module, shape, variables, rng.normal(size=(2, *shape)).astype(np.float32)
