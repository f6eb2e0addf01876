"""The floating-point operations of a step, and the fraction of the device's peak it reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import core

from vitjax.core import jaxpr
from vitjax.nn.batch_norm import UNCHANGED

# Dense bfloat16 peak of one device in FLOP/s, by a part of its `device_kind`; the vendors' data
# sheets. The first match counts, so longer names stand first.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "B200": 2250e12,
    "TPU v6 lite": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    # Of these two a device is a core, and a chip has two.
    "TPU v3": 61.5e12,
    "TPU v2": 22.5e12,
}


def peak_per_second(device_kind: str) -> float | None:
    """The dense bfloat16 peak of one device in FLOP/s, or None where it is not known."""
    return next((peak for name, peak in _PEAKS.items() if name in device_kind), None)


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the matrix products and convolutions in ``function(*arguments)``.

    A multiply-add counts as two, and what batch normalisation multiplies by one as nothing. Loops
    count as often as they run (a ``while`` loop of unknown length once), a conditional as its
    largest branch. What ``remat`` computes again counts again.

    Args:
        function: any JAX function; it is traced, not run.
        *arguments: arrays or `jax.ShapeDtypeStruct`.
    """
    return jaxpr.total(function, *arguments, cost=_cost, branches=max)


def _cost(equation: core.JaxprEqn) -> int | None:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracting, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape  # type: ignore[attr-defined]
        depth = math.prod(left[axis] for axis in contracting)
        return 2 * depth * _size(equation.outvars[0])
    if name == "conv_general_dilated":
        return _count_convolution(equation)
    return 0 if params.get("name") == UNCHANGED else None


def _count_convolution(equation: core.JaxprEqn) -> int:
    """Counts only taps that meet an input value: dilated gradients are mostly zeros."""
    numbers = equation.params["dimension_numbers"]
    inputs, kernel = (v.aval.shape for v in equation.invars[:2])  # type: ignore[attr-defined]
    outputs = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    taps = 1
    for axis in range(len(inputs) - 2):
        taps *= _taps(
            inputs[numbers.lhs_spec[2 + axis]],
            kernel[numbers.rhs_spec[2 + axis]],
            outputs[numbers.out_spec[2 + axis]],
            equation.params["window_strides"][axis],
            equation.params["padding"][axis][0],
            equation.params["lhs_dilation"][axis],
            equation.params["rhs_dilation"][axis],
        )
    # The kernel's input features are those of one group already.
    features = kernel[numbers.rhs_spec[1]]
    batch, channels = outputs[numbers.out_spec[0]], outputs[numbers.out_spec[1]]
    return 2 * taps * features * batch * channels


def _taps(size: int, kernel: int, out: int, stride: int, pad: int, dilated: int, gap: int) -> int:
    """Pairs (output position, kernel position) along one axis that meet an input value."""
    position = np.arange(out)[:, None] * stride - pad + np.arange(kernel)[None, :] * gap
    inside = (position >= 0) & (position <= (size - 1) * dilated) & (position % dilated == 0)
    return int(inside.sum())


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)
