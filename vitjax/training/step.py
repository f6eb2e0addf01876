"""One training step and one evaluation step, for any objective, on one device or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from vitjax.metrics.mean import Mean, Metrics, add
from vitjax.objectives.base import Batch, Objective
from vitjax.objectives.batches import cut
from vitjax.training.state import TrainState, moving

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvaluateStep = Callable[[Mapping[str, Any], Batch], Metrics]


def step_key(rng: Array, step: Any) -> PRNGKeyArray:
    """The key of one step, from the run's key data: nothing else decides what is random in it."""
    return jax.random.fold_in(jax.random.wrap_key_data(rng), step)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    accumulation_steps: int = 1,
    ema_decay: float | None = None,
    trained: Any = None,
    axis_name: str | None = None,
) -> TrainStep:
    """Returns the pure function ``(state, batch) -> (state, metrics)`` of one optimizer step.

    Args:
        objective: gives gradients and metrics.
        optimizer: turns the gradients into updates.
        accumulation_steps: into how many micro-batches a batch is cut, taken one after the other to
            save memory. Gradients are averaged by each micro-batch's weight, so the step is that of
            the whole batch for any model without batch statistics.
        ema_decay: decay of the moving average of the variables; it grows towards this value as
            ``(1 + step) / (10 + step)``, so that the first steps are forgotten soon.
        trained: a tree like the parameters of booleans: which of them ``optimizer`` changes. The
            others' gradients count nothing in the reported norm, and are not even computed; None
            for all.
        axis_name: the mapped axis under ``pmap``; gradients and metrics are summed over it.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        rng = step_key(state.rng, state.step)
        if axis_name is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
        gradients, model_state, metrics = _accumulate(
            objective.at_step(state.step), state, batch, rng, accumulation_steps, axis_name
        )
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, state.params, value=metrics["loss"].value()
        )
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None and ema_decay is not None:
            age = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1 + age) / (10 + age))
            # As a step towards the new value: what does not move has an average that does not.
            ema = jax.tree.map(
                lambda old, new: (old + (1 - decay) * (new - old)).astype(old.dtype),
                ema,
                moving({"params": params, **model_state}),
            )
        if trained is not None:
            gradients = [
                gradient
                for gradient, counts in zip(
                    jax.tree.leaves(gradients), jax.tree.leaves(trained), strict=True
                )
                if counts
            ]
        metrics["grad_norm"] = Mean(optax.tree.norm(gradients), jnp.ones(()))
        state = state.replace(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            ema=ema,
        )
        return state, metrics

    return train_step


def make_evaluate_step(objective: Objective, *, axis_name: str | None = None) -> EvaluateStep:
    """Returns the pure function ``(variables, batch) -> metrics`` of an evaluation.

    To the objective's metrics it adds ``examples``, whose ``count`` is how many were not masked.
    """

    def evaluate_step(variables: Mapping[str, Any], batch: Batch) -> Metrics:
        metrics = objective.evaluate(variables, batch)
        examples = jnp.sum(batch["mask"], dtype=jnp.float32)
        metrics["examples"] = Mean(examples, examples)
        return _over(jax.lax.psum, metrics, axis_name)

    return evaluate_step


def make_predict_step(
    objective: Any, *, axis_name: str | None = None
) -> Callable[[Mapping[str, Any], Batch], dict[str, Array]]:
    """Returns ``(variables, batch) -> {"label", "mask", "prediction", "confidence"}``.

    All are (batch,) over the global batch, in its order: the class number of the truth, whether the
    example counts, the most probable class, and its probability.
    """

    def predict_step(variables: Mapping[str, Any], batch: Batch) -> dict[str, Array]:
        probabilities = objective.predict(variables, batch)
        labels = batch["label"]
        outputs = {
            "label": labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1),
            "mask": batch["mask"],
            "prediction": jnp.argmax(probabilities, axis=-1),
            "confidence": jnp.max(probabilities, axis=-1),
        }
        if axis_name is None:
            return outputs
        return jax.lax.all_gather(outputs, axis_name, tiled=True)

    return predict_step


def make_gather_step(
    function: Callable[[Mapping[str, Any], Batch], Any],
    *,
    first: int | None = None,
    axis_name: str | None = None,
) -> Callable[[Mapping[str, Any], Batch], dict[str, Any]]:
    """Returns ``(variables, batch) -> {"mask", "values"}`` of the global batch, in its order.

    Args:
        function: of variables and a batch; its arrays have the batch's leading axis.
        first: give only so many from the start of the batch.
        axis_name: the mapped axis under ``pmap``.
    """

    def gather_step(variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        outputs = {"mask": batch["mask"], "values": function(variables, batch)}
        if axis_name is not None:
            outputs = jax.lax.all_gather(outputs, axis_name, tiled=True)
        return jax.tree.map(lambda x: x[:first], outputs)

    return gather_step


def _accumulate(
    objective: Objective,
    state: TrainState,
    batch: Batch,
    rng: PRNGKeyArray,
    accumulation_steps: int,
    axis_name: str | None,
) -> tuple[Any, dict[str, Any], Metrics]:
    """Gradients, model state and metrics of a whole batch, over micro-batches and devices."""
    if accumulation_steps == 1:
        gradients, (model_state, metrics) = objective.gradients(
            state.params, state.model_state, batch, rng
        )
    else:

        def micro_step(carry: Any, inputs: Any) -> tuple[Any, None]:
            model_state, gradients, metrics = carry
            index, micro_batch = inputs
            new, (model_state, new_metrics) = objective.gradients(
                state.params, model_state, micro_batch, jax.random.fold_in(rng, index)
            )
            weight = _over(jax.lax.psum, new_metrics["loss"].count, axis_name)
            gradients = jax.tree.map(lambda g, n: g + n * weight.astype(n.dtype), gradients, new)
            return (model_state, gradients, add(metrics, new_metrics)), None

        micro_batches = jax.tree.map(lambda x: cut(x, accumulation_steps), dict(batch))
        first = jax.tree.map(lambda x: x[0], micro_batches)
        shapes = jax.eval_shape(objective.gradients, state.params, state.model_state, first, rng)
        gradients, (_, metrics) = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        (model_state, gradients, metrics), _ = jax.lax.scan(
            micro_step,
            (state.model_state, gradients, metrics),
            (jnp.arange(accumulation_steps), micro_batches),
        )
        weight = _over(jax.lax.psum, metrics["loss"].count, axis_name)
        scale = jnp.where(weight > 0, 1 / jnp.maximum(weight, 1e-30), 0)
        gradients = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)
    # What is frozen is the same everywhere, and a mean of equal numbers need not be that number.
    gradients, averaged = _over(jax.lax.pmean, (gradients, moving(model_state)), axis_name)
    return gradients, {**model_state, **averaged}, _over(jax.lax.psum, metrics, axis_name)


def _over(collective: Callable[..., Any], tree: Any, axis_name: str | None) -> Any:
    """``collective`` of ``tree`` over the mapped axis; ``tree`` itself where there is none."""
    return tree if axis_name is None else collective(tree, axis_name)
