"""Residual networks of keras.applications."""

from __future__ import annotations

import dataclasses

import numpy as np

from vitjax.models.resnet import ResNet
from vitjax.weights.layouts.layout import Arrays, Description, Entry, Known, Layout
from vitjax.weights.layouts.residual import Names, describe, entries

_EPSILON, _OWN_EPSILON = 1.001e-5, 1e-5


def _convolution(ours: str, theirs: str) -> list[Entry]:
    return [Entry((f"params/{ours}/kernel",), (f"{theirs}/kernel",))]


def _batch_norm(ours: str, theirs: str) -> list[Entry]:
    """Batch normalisation, whose statistics absorb what Keras has otherwise.

    Its convolutions have biases, which the mean absorbs, and its epsilon is larger, which the
    variance absorbs.
    """
    conv = f"{theirs.removesuffix('bn')}conv"

    def mean(running: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray]:
        return (running.astype(np.float64) - bias,)

    def variance(running: np.ndarray) -> tuple[np.ndarray]:
        return (running.astype(np.float64) + (_EPSILON - _OWN_EPSILON),)

    return [
        Entry((f"params/{ours}/scale",), (f"{theirs}/gamma",)),
        Entry((f"params/{ours}/bias",), (f"{theirs}/beta",)),
        Entry((f"batch_stats/{ours}/mean",), (f"{theirs}/moving_mean", f"{conv}/bias"), mean),
        Entry((f"batch_stats/{ours}/var",), (f"{theirs}/moving_variance",), variance),
    ]


def _linear(ours: str, theirs: str) -> list[Entry]:
    leaves = ("kernel", "bias")
    return [Entry((f"params/{ours}/{leaf}",), (f"{theirs}/{leaf}",)) for leaf in leaves]


_NAMES = Names(
    block=lambda stage, block: f"conv{stage + 1}_block{block}",
    convs=("1_conv", "2_conv", "3_conv"),
    norms=("1_bn", "2_bn", "3_bn"),
    shortcut_conv="0_conv",
    shortcut_norm="0_bn",
    stem_conv="conv1_conv",
    stem_norm="conv1_bn",
    head="predictions",
    within="_",
    convolution=_convolution,
    batch_norm=_batch_norm,
    linear=_linear,
)


def _describe(arrays: Arrays, known: Known) -> Description:
    found = describe(_NAMES, arrays)
    words = (
        "Keras' own ImageNet weights are for images in the order blue, green, red, of values from 0"
        " to 255 minus (103.939, 116.779, 123.68); its networks of your own training are for what"
        " you gave them"
    )
    return dataclasses.replace(found, fields={**found.fields, "strided": "1x1"}, notes=(words,))


LAYOUTS = (
    Layout(
        name="keras",
        modules=(ResNet,),
        source="ResNet50, ResNet101 and ResNet152 of keras.applications",
        required=(
            r"conv1_conv/kernel",
            r"conv2_block1_1_conv/kernel",
            r"conv2_block1_1_bn/gamma",
        ),
        forbidden={r"_preact_bn/|^post_bn/": "poolings in its shortcuts (ResNetV2 of Keras)"},
        describe=_describe,
        entries=lambda module, arrays: entries(_NAMES, module),
    ),
)
