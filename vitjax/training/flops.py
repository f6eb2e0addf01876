"""The floating-point operations of a step, and the fraction of the device's peak it reaches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.extend import core
from jaxtyping import PRNGKeyArray

from vitjax.core import jaxpr
from vitjax.nn.batch_norm import UNCHANGED
from vitjax.objectives.base import Batch, Objective
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.parallel import accelerators


def peak_per_second(device_kind: str) -> float | None:
    """The dense bfloat16 peak of one device in FLOP/s, or None if it is not known."""
    found = accelerators.of_kind(device_kind)
    return None if found is None else found.peak


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the matrix products and convolutions in ``function(*arguments)``.

    A multiply-add counts as two. The multiplications by one of batch normalisation do not count.
    The body of a loop counts once per iteration (a ``while`` loop of unknown length once), a
    conditional as its largest branch. What ``remat`` recomputes counts again.

    Args:
        function: any JAX function; it is traced, not run.
        *arguments: arrays or `jax.ShapeDtypeStruct`.
    """
    return jaxpr.total(function, *arguments, cost=cost, branches=max)


def per_example(objective: Objective, state: TrainState, batch: Batch) -> float:
    """FLOPs of a training step for one example, by the formulas of the networks.

    They are counted in `Objective.update`, with every network, loss and gradient that it computes,
    but without the arithmetic of the optimizers. The model is the plain one: what ``remat``
    recomputes is no progress, and the operations inside a fused attention kernel cannot be counted.

    Args:
        objective: the objective of the run.
        state: the state, or its shapes.
        batch: an example batch.
    """
    objective = dataclasses.replace(objective, model=objective.model.plain())
    idle = Optimizer(optax.with_extra_args_support(optax.identity()))
    groups = objective.parameter_groups
    optimizers = dict.fromkeys(groups, idle) if groups else idle

    def step(state: TrainState, batch: Batch, rng: PRNGKeyArray) -> Any:
        return objective.update(state, batch, rng, optimizers)

    return count(step, state, batch, jax.random.key(0)) / len(batch["mask"])


def cost(equation: core.JaxprEqn) -> int | None:
    """FLOPs of one equation, as `count` counts them; None for those of the jaxprs within it."""
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
    """Counts only taps on input values: dilated gradients are mostly zeros."""
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
    # The input features of the kernel are those of one group.
    features = kernel[numbers.rhs_spec[1]]
    batch, channels = outputs[numbers.out_spec[0]], outputs[numbers.out_spec[1]]
    return 2 * taps * features * batch * channels


def _taps(size: int, kernel: int, out: int, stride: int, pad: int, dilated: int, gap: int) -> int:
    """The pairs (output position, kernel position) along one axis that read an input value."""
    position = np.arange(out)[:, None] * stride - pad + np.arange(kernel)[None, :] * gap
    inside = (position >= 0) & (position <= (size - 1) * dilated) & (position % dilated == 0)
    return int(inside.sum())


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)
