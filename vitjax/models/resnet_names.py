"""The names under which residual networks are registered, and their papers."""

import dataclasses
import functools
from typing import Any

from vitjax.models.catalogue import MODELS
from vitjax.models.resnet import ResNet

_V1 = "He et al. 2016, arXiv:1512.03385"
_V2 = "He et al. 2016 (identity mappings), arXiv:1603.05027"
_WIDE = "Zagoruyko and Komodakis 2016, arXiv:1605.07146"
_BIT = "Kolesnikov et al. 2020 (Big Transfer), arXiv:1912.11370"

# Depth to blocks per stage: arXiv:1512.03385, Table 1, and arXiv:1603.05027, App. A for 200.
_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


# What a name decides, be it by a default: a file of weights that says otherwise does not fit.
_DECIDED = (
    "block",
    "preactivation",
    "width",
    "stem_width",
    "bottleneck_factor",
    "stem",
    "zero_pool",
    "shortcut",
    "norm",
    "standardize_epsilon",
)
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(ResNet) if f.name in _DECIDED}


def _register(name: str, image_size: int, paper: str, **fields: Any) -> None:
    constructor = functools.partial(ResNet, **{**_DEFAULTS, **fields})
    MODELS.register(name, image_size=image_size, paper=paper)(constructor)


for _depth, _sizes in {**_BASIC, **_BOTTLENECK}.items():
    _block = "basic" if _depth in _BASIC else "bottleneck"
    _register(f"resnet{_depth}", 224, _V1, stage_sizes=_sizes, block=_block)
    _register(f"resnet{_depth}_v2", 224, _V2, stage_sizes=_sizes, block=_block, preactivation=True)

for _depth in (20, 32, 44, 56, 110):
    # arXiv:1512.03385, Sec. 4.2: 6n + 2 layers, 16, 32 and 64 channels, shortcuts of option A.
    _register(
        f"resnet{_depth}",
        32,
        _V1,
        stage_sizes=((_depth - 2) // 6,) * 3,
        block="basic",
        width=16,
        stem="cifar",
        shortcut="pad",
        num_classes=10,
    )

for _depth, _factor in ((28, 10), (16, 8), (40, 2)):
    # arXiv:1605.07146, Table 1: 6n + 4 layers, 16 k, 32 k and 64 k channels after a stem of 16.
    _register(
        f"wrn{_depth}_{_factor}",
        32,
        _WIDE,
        stage_sizes=((_depth - 4) // 6,) * 3,
        block="basic",
        preactivation=True,
        width=16 * _factor,
        stem_width=16,
        stem="cifar",
        num_classes=10,
    )

for _depth in (50, 101):
    _register(f"wrn{_depth}_2", 224, _WIDE, stage_sizes=_BOTTLENECK[_depth], bottleneck_factor=2)

for _depth, _factor in ((50, 1), (50, 3), (101, 1), (101, 3), (152, 2), (152, 4)):
    _register(
        f"bit_r{_depth}x{_factor}",
        224,
        _BIT,
        stage_sizes=_BOTTLENECK[_depth],
        preactivation=True,
        width=64 * _factor,
        norm="group",
        standardize_epsilon=1e-10,
        zero_pool=True,
        conv_init="lecun",
        head_init="zeros",
    )
