"""EfficientNet of timm, torchvision and the two PyTorch packages with TensorFlow's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.models.efficientnet import SCALES, EfficientNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.card import CONFIG
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.inverted_residual import LAYER, REQUIRED, timm
from vitjax.weights.layouts.layout import Arrays
from vitjax.weights.layouts.target import Construction, Written
from vitjax.weights.layouts.timm_card import TimmConvNetCard

_NAMES = {f"efficientnet_{size}": f"efficientnet_{size}" for size in SCALES}
# Fields of networks that were trained with TensorFlow, and of timm's others.
_TENSORFLOW: dict[str, Any] = {"padding": "same", "norm_epsilon": 1e-3}
_PYTORCH: dict[str, Any] = {"padding": "symmetric", "norm_epsilon": 1e-5}
_SQUEEZED = (r"features\.0\.0\.weight", r"features\.1\.0\.block\.1\.fc1\.weight")
_THIRD_BLOCK = r"features\.1\.2\.block\.0\.0\.weight"
_PACKAGES = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    "last/conv": "_conv_head",
    "last/norm": "_bn1",
    "head": "_fc",
}


def _packages(module: EfficientNet, name: str) -> str:
    if (found := LAYER.fullmatch(name)) is None:
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


def _torchvision(module: EfficientNet, name: str) -> str:
    if (found := LAYER.fullmatch(name)) is None:
        part, _, layer = name.partition("/")
        if part == "head":
            return "classifier.1"
        return f"features.{0 if part == 'stem' else 8}.{int(layer == 'norm')}"
    stage, part, layer = int(found[1]), found[3], found[4]
    order = ["expand", "depthwise", "squeeze_excite", "project"][stage == 1 :]
    if part == "squeeze_excite":
        layer = "fc1" if layer == "reduce" else "fc2"
    else:
        layer = "0" if layer == "conv" else "1"
    return f"features.{stage}.{int(found[2]) - 1}.block.{order.index(part)}.{layer}"


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


def _of_torchvision(sizes: range, epsilon: float, **patterns: Any) -> Family:
    """The networks of torchvision that have one epsilon."""
    return Family(
        project="torchvision",
        model=EfficientNet,
        source="torchvision.models.efficientnet",
        names={f"efficientnet_b{size}": f"efficientnet_b{size}" for size in sizes},
        translate=_torchvision,
        variants=({"norm_epsilon": epsilon},),
        plausible=lambda module, arrays: (
            sum(name.endswith(".fc1.weight") for name in arrays) == sum(module.stage_sizes)
        ),
        **patterns,
    )


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
        translate=timm,
        required=REQUIRED,
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
    # The epsilon is shown by no array, and the first stage's third block by those from B5 on.
    _of_torchvision(
        range(5), 1e-5, required=_SQUEEZED, forbidden={_THIRD_BLOCK: "the blocks of B5 to B7"}
    ).layout(),
    _of_torchvision(range(5, 8), 1e-3, required=(*_SQUEEZED, _THIRD_BLOCK)).layout(),
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
