"""One training step and one evaluation step, for any objective, on one device or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from vitjax.metrics import Mean, Metrics, over_axis
from vitjax.objectives.base import Batch, Objective
from vitjax.objectives.state import TrainState, averaged
from vitjax.optim.optimizer import Optimizers

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvaluateStep = Callable[[Mapping[str, Any], Batch], Metrics]


def step_key(rng: Array, step: Any) -> PRNGKeyArray:
    """The key of one step, from the run's key data; all randomness of the step comes from it."""
    return jax.random.fold_in(jax.random.wrap_key_data(rng), step)


def make_train_step(
    objective: Objective,
    optimizer: Optimizers,
    *,
    ema_decay: float | None = None,
) -> TrainStep:
    """Returns the pure function ``(state, batch) -> (state, metrics)`` of one training step.

    Args:
        objective: updates the state; under ``pmap`` it has the name of the mapped axis.
        optimizer: of all parameters; for an objective with parameter groups one per group.
        ema_decay: decay of the moving average of the variables, at most
            ``(1 + step) / (10 + step)``, so that the first steps have little weight.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        rng = step_key(state.rng, state.step)
        if objective.axis_name is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(objective.axis_name))
        updated, metrics = objective.at_step(state.step).update(state, batch, rng, optimizer)
        ema = state.ema
        if ema is not None and ema_decay is not None:
            age = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1 + age) / (10 + age))
            variables = {"params": updated.params, **updated.model_state}
            # `optax.incremental_update` as a step towards the new value, so that constant values
            # stay bit-equal.
            ema = jax.tree.map(
                lambda old, new: (old + (1 - decay) * (new - old)).astype(old.dtype),
                ema,
                averaged(variables, objective.own_collections),
            )
        return updated.replace(step=state.step + 1, rng=state.rng, ema=ema), metrics

    return train_step


def make_evaluate_step(
    function: Callable[[Mapping[str, Any], Batch], Metrics], *, axis_name: str | None = None
) -> EvaluateStep:
    """Returns the pure function ``(variables, batch) -> metrics`` of an evaluation.

    Args:
        function: for example `Objective.evaluate`. The step adds ``examples`` to its metrics, whose
            ``count`` is the number of unmasked examples.
        axis_name: the mapped axis under ``pmap``.
    """

    def evaluate_step(variables: Mapping[str, Any], batch: Batch) -> Metrics:
        examples = jnp.sum(batch["mask"], dtype=jnp.float32)
        metrics = {**function(variables, batch), "examples": Mean(examples, examples)}
        return over_axis(metrics, axis_name)

    return evaluate_step


def make_gather_step(
    function: Callable[[Mapping[str, Any], Batch], Any],
    *,
    first: int | None = None,
    axis_name: str | None = None,
) -> Callable[[Mapping[str, Any], Batch], dict[str, Any]]:
    """Returns ``(variables, batch) -> {"mask", "values"}`` for the global batch, in its order.

    Args:
        function: a function of variables and a batch, whose arrays have the batch's leading axis.
        first: return this many examples from the start of the batch; None for all.
        axis_name: the mapped axis under ``pmap``.
    """

    def gather_step(variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        outputs = {"mask": batch["mask"], "values": function(variables, batch)}
        if axis_name is not None:
            outputs = jax.lax.all_gather(outputs, axis_name, tiled=True)
        return jax.tree.map(lambda x: x[:first], outputs)

    return gather_step
