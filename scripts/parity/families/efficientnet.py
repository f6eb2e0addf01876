"""EfficientNet of timm, torchvision and the two PyTorch packages with TensorFlow's weights.

Wants efficientnet_pytorch 0.7.1 and efficientnet_lite_pytorch 0.1.0 as well.
"""

from functools import partial
from typing import Any

import efficientnet_lite_pytorch  # type: ignore[import-not-found]
import efficientnet_pytorch  # type: ignore[import-not-found]
import timm
import torchvision
from timm.models import efficientnet
from torch import nn

from scripts.parity.family import Case, Member

_SIZES = [f"b{i}" for i in range(8)] + [f"lite{i}" for i in range(5)]
_SAME = {"padding": "same", "norm_epsilon": 1e-3}


def _package(size: str, **fields: Any) -> nn.Module:
    module = efficientnet_lite_pytorch if size.startswith("lite") else efficientnet_pytorch
    return module.EfficientNet.from_name(f"efficientnet-{size}", image_size=None, **fields)


def _timm_scaled(make: Any, depth: float, **fields: Any) -> nn.Module:
    return make(
        "efficientnet_b0",
        channel_multiplier=0.25,
        depth_multiplier=depth,
        num_classes=5,
        **fields,
    )


def _torchvision_scaled(width: float, depth: float) -> nn.Module:
    module = torchvision.models.efficientnet
    blocks, _ = module._efficientnet_conf("efficientnet_b0", width_mult=width, depth_mult=depth)
    return module.EfficientNet(blocks, 0.2, num_classes=5)


MEMBERS = [
    *(
        Member(
            f"efficientnet_b{size}",
            "torchvision",
            getattr(torchvision.models, f"efficientnet_b{size}"),
            {"norm_epsilon": 1e-3} if size > 4 else {},
        )
        for size in range(8)
    ),
    *(
        Member(f"efficientnet_{size}", "timm", partial(timm.create_model, f"efficientnet_{size}"))
        for size in _SIZES
    ),
    *(
        Member(f"efficientnet_{size}", "efficientnet-pytorch", partial(_package, size), _SAME)
        for size in _SIZES
    ),
]
_FIELDS = {"width_factor": 0.25, "depth_factor": 0.5, "num_classes": 5}
_BLOCKS = {
    r"blocks\.(\d)\.(\d)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output",
}
CASES = {
    "efficientnet_torchvision": Case(
        "efficientnet_b0",
        "torchvision",
        partial(_torchvision_scaled, 0.25, 0.5),
        _FIELDS,
        watched={
            r"features\.([1-7])\.(\d)": lambda m: f"stage{m[1]}_block{int(m[2]) + 1}/output",
        },
    ),
    # Each stage has a second block, the first one too.
    "efficientnet_timm": Case(
        "efficientnet_b0",
        "timm",
        partial(_timm_scaled, efficientnet._gen_efficientnet, 1.1),
        {**_FIELDS, "depth_factor": 1.1},
        watched=_BLOCKS,
    ),
    "efficientnet_timm_same": Case(
        "efficientnet_b0",
        "timm",
        partial(_timm_scaled, efficientnet._gen_efficientnet, 0.5, bn_eps=1e-3, pad_type="same"),
        {**_FIELDS, **_SAME},
        (2, 3, 64, 61),
        watched=_BLOCKS,
    ),
    "efficientnet_timm_lite": Case(
        "efficientnet_lite0",
        "timm",
        partial(_timm_scaled, efficientnet._gen_efficientnet_lite, 0.5),
        _FIELDS,
        watched=_BLOCKS,
    ),
    # In this package the first block of a stage has no shortcut, even if its channels are equal.
    "efficientnet_package": Case(
        "efficientnet_b0",
        "efficientnet-pytorch",
        partial(_package, "b0", width_coefficient=0.5, depth_coefficient=0.5, num_classes=5),
        {**_FIELDS, **_SAME, "width_factor": 0.5},
        (2, 3, 64, 61),
        watched={r"_blocks\.0": "stage1_block1/output", r"_blocks\.9": "stage7_block1/output"},
    ),
    "efficientnet_package_lite": Case(
        "efficientnet_lite0",
        "efficientnet-pytorch",
        partial(_package, "lite0", width_coefficient=0.25, depth_coefficient=0.5, num_classes=5),
        {**_FIELDS, **_SAME},
        watched={r"_blocks\.0": "stage1_block1/output", r"_blocks\.9": "stage7_block1/output"},
    ),
}
