"""EfficientNet of timm and of the two PyTorch packages that have TensorFlow's weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.efficientnet import SCALES, EfficientNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.card import CONFIG
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.layout import Arrays
from vitjax.weights.layouts.target import Construction, Written
from vitjax.weights.layouts.timm_card import TimmConvNetCard

_NAMES = {f"efficientnet_{size}": f"efficientnet_{size}" for size in SCALES}
_LAYER = re.compile(
    r"stage(\d+)_block(\d+)/(expand|depthwise|squeeze_excite|project)/(conv|norm|reduce|expand)"
)
# Fields of networks that were trained with TensorFlow, and of timm's others.
_TENSORFLOW: dict[str, Any] = {"padding": "same", "norm_epsilon": 1e-3}
_PYTORCH: dict[str, Any] = {"padding": "symmetric", "norm_epsilon": 1e-5}
_TIMM = {
    "stem/conv": "conv_stem",
    "stem/norm": "bn1",
    "last/conv": "conv_head",
    "last/norm": "bn2",
    "head": "classifier",
}
_PACKAGES = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    "last/conv": "_conv_head",
    "last/norm": "_bn1",
    "head": "_fc",
}


def _timm(module: EfficientNet, name: str) -> str:
    if (found := _LAYER.fullmatch(name)) is None:
        return _TIMM[name]
    stage, part, layer = int(found[1]), found[3], found[4]
    # The first stage has no expansion, and layers of another name.
    order = ["depthwise", "project"] if stage == 1 else ["expand", "depthwise", "project"]
    convs = {"expand": "pw", "depthwise": "dw", "project": "pw" if stage == 1 else "pwl"}
    if part == "squeeze_excite":
        layer = f"se.conv_{layer}"
    else:
        layer = f"conv_{convs[part]}" if layer == "conv" else f"bn{order.index(part) + 1}"
    return f"blocks.{stage - 1}.{int(found[2]) - 1}.{layer}"


def _packages(module: EfficientNet, name: str) -> str:
    if (found := _LAYER.fullmatch(name)) is None:
        return _PACKAGES[name]
    stage, part, layer = int(found[1]), found[3], found[4]
    block = sum(module.stage_sizes[: stage - 1]) + int(found[2]) - 1
    if part == "squeeze_excite":
        layer = f"_se_{layer}"
    elif layer == "conv":
        layer = f"_{part}_conv"
    else:
        layer = f"_bn{('expand', 'depthwise', 'project').index(part)}"
    return f"_blocks.{block}.{layer}"


class _TimmCard(TimmConvNetCard):
    """The cards of timm, whose names state which networks have TensorFlow's padding."""

    def fields_of(
        self, name: str, pooling: Any, arrays: Mapping[str, np.ndarray], **other: Any
    ) -> dict[str, Any]:
        """As `TimmCard.fields_of`."""
        super().fields_of(name, pooling, arrays, **other)
        if name.partition(".")[0].removeprefix("tf_") not in _NAMES:
            raise WeightsError(
                f"{CONFIG} beside it says that this is timm's {name!r}, which vitjax does not have"
            )
        return dict(_TENSORFLOW if name.startswith("tf_") else _PYTORCH)


def _plausible(module: EfficientNet, arrays: Arrays) -> bool:
    """Whether a file has as many blocks, and squeeze and excitation or not."""
    depthwise = sum(name.endswith(("conv_dw.weight", "_depthwise_conv.weight")) for name in arrays)
    squeezed = any(".se." in name or "._se_" in name for name in arrays)
    return depthwise == sum(module.stage_sizes) and squeezed != module.lite


def _named(made: Construction, module: EfficientNet) -> Construction:
    """The call with timm's name of a network with TensorFlow's padding, if it is one."""
    (name,) = made.positional
    prefix = "tf_" if module.padding == "same" else ""
    return dataclasses.replace(made, positional=(f"{prefix}{name}",))


def _call(name: str, written: Written) -> Construction:
    package = "efficientnet_lite_pytorch" if "lite" in name else "efficientnet_pytorch"
    return Construction(
        "EfficientNet.from_name",
        (name,),
        # Without a size, padding is by the size of each image.
        {"in_channels": written.channels, "image_size": None},
        [f"from {package} import EfficientNet"],
    )


def _guess(field: str) -> str:
    words = "no array shows the padding of strided convolutions and the epsilon of normalisations"
    return (
        f"{words}; {field} is taken to be {_PYTORCH[field]!r}, as in timm's efficientnet_*"
        f" ({_TENSORFLOW[field]!r} in its tf_efficientnet_*)"
    )


LAYOUTS = (
    Family(
        project="timm",
        model=EfficientNet,
        source="timm.models.efficientnet",
        names=_NAMES,
        translate=_timm,
        required=(
            r"conv_stem\.weight",
            r"blocks\.0\.0\.conv_dw\.weight",
            r"blocks\.6\.0\.conv_pwl\.weight",
        ),
        variants=({}, _TENSORFLOW),
        guessed={field: _guess(field) for field in _PYTORCH},
        siblings={
            ours: f"timm's tf_{theirs}, with TensorFlow's padding and epsilon"
            " (--field=padding=same --field=norm_epsilon=0.001)"
            for ours, theirs in _NAMES.items()
        },
        construct=_named,
        plausible=_plausible,
        card=_TimmCard(),
    ).layout(),
    Family(
        project="efficientnet-pytorch",
        model=EfficientNet,
        source="lukemelas/EfficientNet-PyTorch, ml-illustrated/EfficientNet-Lite-PyTorch",
        names={name: name.replace("_", "-") for name in _NAMES},
        translate=_packages,
        required=(
            r"_conv_stem\.weight",
            r"_blocks\.0\._depthwise_conv\.weight",
            r"_blocks\.\d+\._expand_conv\.weight",
        ),
        variants=(_TENSORFLOW,),
        call=_call,
        plausible=_plausible,
    ).layout(),
)
