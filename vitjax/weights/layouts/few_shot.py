"""The networks of few-shot learning in MAML's code, learn2learn and MetaOptNet."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from vitjax.models.conv4 import Conv4
from vitjax.models.resnet12 import ResNet12
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import few_shot_fold, few_shot_target
from vitjax.weights.layouts.few_shot_fold import LEARN2LEARN_EPSILON, MAML_EPSILONS
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    batch_norm,
    convolution,
    count,
    dense,
    require,
    same,
)
from vitjax.weights.layouts.residual import FORBIDDEN

_IGNORED = (r".*num_batches_tracked$",)


def _side(pixels: float, name: str) -> int:
    """The side of a square with the given number of pixels."""
    side = round(pixels**0.5)
    if side * side != pixels:
        raise WeightsError(f"the inputs of {name} form no square of pixels")
    return side


def _input_side(side: int, depth: int) -> int:
    """Pixels on a side of images that ``depth`` halvings reduce to ``side``."""
    # 84 is the usual size in few-shot learning.
    return 84 if 84 >> depth == side else side << depth


def _halved(how: str) -> dict[str, str]:
    """What a file does not say: strides and pooling have the same parameters."""
    return {"downsample": f"no array shows what halves the images; assumed: {how}, as usual"}


# --------------------------------------------------------------------------------------------- MAML


def _maml_prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    """The names in the code's dict of weights, also for TensorFlow's checkpoint.

    In a checkpoint they begin with ``model/``, and biases are ``Variable``, ``Variable_1``, ...
    """
    found = {}
    for name, array in arrays.items():
        name = name.removesuffix(":0").removeprefix("model/")
        if unnamed := re.fullmatch(r"Variable(?:_(\d+))?", name):
            name = f"b{int(unnamed[1] or 0) + 1}"
        found[name] = array
    return found


def _maml_entries(module: Conv4, arrays: Arrays | None) -> list[Entry]:
    fields = {"depth": 4, "activation": "relu", "num_context": 0, "stride_padding": "tensorflow"}
    require(module, "cbfinn/maml", **fields)
    if module.norm not in ("batch", "layer", "none"):
        require(module, "cbfinn/maml", norm="batch")
    found: list[Entry] = []
    for i in range(1, 5):
        found += same(f"params/conv{i}/kernel", f"conv{i}") + same(f"params/conv{i}/bias", f"b{i}")
        norm = f"params/norm{i}"
        if module.norm != "none":
            found += same(f"{norm}/bias", f"{i - 1}/beta")
        if module.norm == "layer":
            found += same(f"{norm}/scale", f"{i - 1}/gamma")
        if module.norm == "batch":
            found.append(_one(f"{norm}/scale", module.filters))
            found += _moments(f"batch_stats/norm{i}", f"{i - 1}", module.filters, arrays)
    found += same("params/head/kernel", "w5", optional=True)
    return found + same("params/head/bias", "b5", optional=True)


def _one(ours: str, width: int) -> Entry:
    """A scale of 1 that files do not have."""

    def write(scale: np.ndarray) -> tuple[np.ndarray, ...]:
        if (scale != 1).any():
            raise WeightsError(
                f"cbfinn/maml's batch normalisation has no scale, but {ours} is not 1 everywhere"
            )
        return ()

    return Entry((ours,), (), lambda: (np.ones(width, np.float32),), write)


def _moments(ours: str, theirs: str, width: int, arrays: Arrays | None) -> list[Entry]:
    """Running statistics, which the code never updates and its dict of weights lacks."""
    names = {"mean": "moving_mean", "var": "moving_variance"}
    if arrays is None or f"{theirs}/moving_mean" in arrays:
        return [Entry((f"{ours}/{a}",), (f"{theirs}/{b}",)) for a, b in names.items()]
    start = (np.zeros(width, np.float32), np.ones(width, np.float32))
    return [Entry(tuple(f"{ours}/{a}" for a in names), (), lambda: start)]


def _describe_maml(arrays: Arrays, known: Known) -> Description:
    *_, channels, filters = arrays["conv1"].shape
    fields: dict[str, Any] = {"filters": filters, "num_classes": None}
    norms = {"layer": "0/gamma", "batch": "0/beta"}
    fields["norm"] = next((norm for norm, name in norms.items() if name in arrays), "none")
    if fields["norm"] == "layer":
        fields["norm_epsilon"] = MAML_EPSILONS["layer"]
    # Omniglot's network averages over the pixels; that of miniImageNet reads all of them.
    side = 1
    if "w5" in arrays:
        inputs, fields["num_classes"] = arrays["w5"].shape
        side = _side(inputs / filters, "w5")
    fields["downsample"] = "pool"
    if side == 1:
        fields |= {"downsample": "stride", "pooling": "mean"}
        return Description(Conv4, fields, (28, 28, channels), guessed=_halved("strides"))
    size = _input_side(side, 4)
    return Description(Conv4, fields, (size, size, channels), guessed=_halved("pooling"))


# ----------------------------------------------------------------------------------- PyTorch's code


def _flattened(ours: str, theirs: str, channels: int) -> list[Entry]:
    """A head over all pixels, flattened with channels first in PyTorch's code, last in vitjax."""
    kernel, bias = dense(ours, theirs, optional=True)
    (name,) = kernel.theirs

    def read(weight: np.ndarray) -> tuple[np.ndarray, ...]:
        classes, inputs = weight.shape
        side = _side(inputs / channels, name)
        pixels = weight.reshape(classes, channels, side, side).transpose(2, 3, 1, 0)
        return (pixels.reshape(-1, classes),)

    def write(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
        inputs, classes = kernel.shape
        side = _side(inputs / channels, ours)
        pixels = kernel.reshape(side, side, channels, classes).transpose(3, 2, 0, 1)
        return (pixels.reshape(classes, -1),)

    return [dataclasses.replace(kernel, read=read, write=write), bias]


def _learn2learn_entries(module: Conv4, arrays: Arrays | None) -> list[Entry]:
    fields = {
        "norm": "batch",
        "norm_epsilon": LEARN2LEARN_EPSILON,
        "activation": "relu",
        "num_context": 0,
    }
    require(module, "learn2learn", **fields)
    if module.downsample == "stride":
        require(module, "learn2learn", stride_padding="pytorch")
    omniglot = module.pooling == "mean" and module.downsample == "stride"
    if arrays is not None:
        omniglot = "base.0.conv.weight" in arrays
    found: list[Entry] = []
    for i in range(module.depth):
        block = f"base.{i}" if omniglot else f"features.{i}"
        found += convolution(f"conv{i + 1}", f"{block}.conv", bias=True)
        found += batch_norm(f"norm{i + 1}", f"{block}.normalize")
    if not omniglot:
        return found + _flattened("head", "classifier", module.filters)
    return [*map(_twice, found), *dense("head", "classifier", optional=True)]


def _twice(entry: Entry) -> Entry:
    """An array with two names in a state dict, since one module has it twice."""
    (name,) = entry.theirs
    return dataclasses.replace(
        entry,
        theirs=(name, name.replace("base.", "features.1.", 1)),
        read=lambda first, second: entry.read(first),
        write=lambda array: entry.write(array) * 2,
    )


def _describe_learn2learn(arrays: Arrays, known: Known) -> Description:
    omniglot = "base.0.conv.weight" in arrays
    filters, channels, *_ = arrays[f"{'base' if omniglot else 'features'}.0.conv.weight"].shape
    fields: dict[str, Any] = {
        "filters": filters,
        "norm_epsilon": LEARN2LEARN_EPSILON,
        "num_classes": None,
    }
    fields["depth"] = count(arrays, r"(?:base|features)\.(\d+)\.conv\.")
    side = 0
    if "classifier.weight" in arrays:
        fields["num_classes"], inputs = arrays["classifier.weight"].shape
        side = _side(inputs / filters, "classifier")
    if omniglot:
        fields |= {"downsample": "stride", "stride_padding": "pytorch", "pooling": "mean"}
        return Description(Conv4, fields, (28, 28, channels))
    fields["downsample"] = "pool"
    size = _input_side(side, fields["depth"]) if side else 84
    return Description(Conv4, fields, (size, size, channels), guessed=_halved("pooling"))


def _resnet12_entries(module: ResNet12, arrays: Arrays | None) -> list[Entry]:
    found: list[Entry] = []
    for stage in range(1, len(module.widths) + 1):
        ours, theirs = f"stage{stage}_block1", f"layer{stage}.0"
        for i in (1, 2, 3):
            found += convolution(f"{ours}/conv{i}", f"{theirs}.conv{i}")
            found += batch_norm(f"{ours}/norm{i}", f"{theirs}.bn{i}")
        found += convolution(f"{ours}/shortcut_conv", f"{theirs}.downsample.0")
        found += batch_norm(f"{ours}/shortcut_norm", f"{theirs}.downsample.1")
    if module.pooling == "flatten":
        return found + _flattened("head", "classifier", module.widths[-1])
    return found + dense("head", "classifier", optional=True)


def _describe_resnet12(arrays: Arrays, known: Known) -> Description:
    stages = count(arrays, r"layer(\d+)\.0\.conv1\.") - 1
    kernels = [arrays[f"layer{stage}.0.conv1.weight"] for stage in range(1, stages + 1)]
    widths = tuple(kernel.shape[0] for kernel in kernels)
    fields: dict[str, Any] = {"widths": widths, "num_classes": None}
    size = 84
    if "classifier.weight" in arrays:
        fields["num_classes"], inputs = arrays["classifier.weight"].shape
        side = _side(inputs / widths[-1], "classifier")
        if side > 1:
            fields["pooling"], size = "flatten", _input_side(side, stages)
    return Description(ResNet12, fields, (size, size, kernels[0].shape[1]))


LAYOUTS = (
    Layout(
        name="maml",
        modules=(Conv4,),
        source="cbfinn/maml",
        required=(r"conv1", r"b1", r"conv4", r"b4"),
        describe=_describe_maml,
        entries=_maml_entries,
        prepare=_maml_prepare,
        # Adam's state in TensorFlow's checkpoint.
        ignored=(r".*/Adam(_1)?$", r"(.*/)?beta\d_power$", r"global_step$"),
        fold=few_shot_fold.maml,
        target=few_shot_target.maml,
        channels_first=False,
        suffix=".npz",
    ),
    Layout(
        name="learn2learn",
        modules=(Conv4,),
        source="learn2learn.vision.models.cnn4",
        required=(
            r"(base|features)\.0\.conv\.weight",
            r"(base|features)\.0\.normalize\.weight",
        ),
        describe=_describe_learn2learn,
        entries=_learn2learn_entries,
        fold=few_shot_fold.learn2learn,
        target=few_shot_target.learn2learn,
        ignored=_IGNORED,
        suffix=".pth",
    ),
    Layout(
        name="metaoptnet",
        modules=(ResNet12,),
        source="kjunelee/MetaOptNet and WangYueFt/rfs",
        required=(r"layer1\.0\.conv3\.weight", r"layer1\.0\.downsample\.0\.weight"),
        forbidden={**FORBIDDEN, r"^(conv1|layer0\.conv1)\.": "a stem before the first stage"},
        describe=_describe_resnet12,
        entries=_resnet12_entries,
        target=few_shot_target.resnet12,
        ignored=_IGNORED,
        suffix=".pth",
    ),
)
