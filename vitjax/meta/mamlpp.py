"""MAML++: MAML with modifications that stabilise its training."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import layer
from vitjax.core.validation import NonNegativeInt, OneOf, Steps
from vitjax.meta import network, parameters
from vitjax.meta.episodic import Episode
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.parameters import Leaves
from vitjax.metrics import Metrics
from vitjax.objectives.base import Batch, ModelState, Params, objectives

STATISTICS = "batch_stats"
# The minimum weight of a step before the last while annealing, relative to equal weights.
_MINIMUM = 0.03


def loss_weights(step: Any, annealing: int, inner_steps: int) -> Float[Array, "inner_steps"]:
    """The weight of the query loss after each of ``inner_steps`` updates; the weights sum to 1.

    The weights are equal at ``step`` 0. Those before the last decrease linearly to a minimum and
    are 0 from step ``annealing`` on (arXiv:1810.09502, Sec. 4; the schedule is that of the authors'
    code, with steps instead of epochs).
    """
    progress = jnp.asarray(step) / annealing
    early = jnp.where(progress < 1, jnp.maximum(1 - progress, _MINIMUM), 0) / inner_steps
    weights = jnp.full((inner_steps,), early)
    return weights.at[-1].set(1 - (inner_steps - 1) * early)


@objectives.register("mamlpp")
@dataclasses.dataclass(frozen=True)
class MamlPlusPlus(GradientBased):
    """MAML++: Antoniou et al. 2019, arXiv:1810.09502, Sec. 4. With all switches off it is MAML.

    The paper's cosine annealing of the outer learning rate is the config's ``schedule``.

    ``per_step_norm`` and ``per_step_statistics`` apply to the layers of batch normalisation with
    running statistics. Steps beyond ``inner_steps``, which ``test_steps`` may have, use the values
    of the last step.

    The outer optimizer's ``weight_decay`` applies to the entries ``rates`` and ``norm`` of the
    parameters, unless the config sets
    ``optimizer.weight_decay_factors=((r"^(rates|norm)/", 0.0),)``.

    Attributes:
        multi_step_loss: the loss is a weighted sum of the query losses after each update, see
            `loss_weights`.
        multi_step_loss_steps: number of optimizer steps after which only the last query loss is
            computed; the default is the authors' 15 epochs of 500 steps.
        learned_rates: learn a rate per parameter tensor and update, the entry ``rates`` of the
            parameters. The initial value is ``inner_learning_rate``; a rate may become negative.
        per_step_norm: batch normalisation has a scale and bias per number of updates, which are
            learned but not adapted. The model's own are those before the first update; the entry
            ``norm`` of the parameters has the others.
        per_step_statistics: batch normalisation has running statistics per number of updates.
            Training updates them with the support sets, and with the queries of the steps whose
            loss is computed. Evaluation uses them under ``inductive_statistics="running"``.
        first_order_steps: number of optimizer steps with the first-order gradient
            (derivative-order annealing), which take less time.
        inductive_statistics: ``"auto"`` is ``"running"`` with ``per_step_statistics`` and
            ``"support"`` without.
        step: the optimizer step set by `at_step`; None outside of training, which means that
            annealing is complete.
    """

    inductive_statistics: Annotated[str, OneOf(("auto", *network.STATISTICS))] = "auto"
    multi_step_loss: bool = True
    multi_step_loss_steps: Steps = 7500
    learned_rates: bool = True
    per_step_norm: bool = True
    per_step_statistics: bool = True
    first_order_steps: NonNegativeInt = 0
    step: Any = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.inductive_statistics == "auto":
            chosen = "running" if self.per_step_statistics else "support"
            object.__setattr__(self, "inductive_statistics", chosen)
        super().__post_init__()
        if self.first_order and self.first_order_steps:
            raise ConfigError(
                f"objective.first_order_steps is {self.first_order_steps}, but with"
                " objective.first_order all steps are; set one of them"
            )

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """As for any few-shot objective, with the values per step.

        Raises:
            ConfigError: a switch needs batch normalisation, or there is nothing to adapt.
        """
        variables = super().wrap(rng, variables, batch)
        params = variables["params"]
        leaves = parameters.flatten(params["model"])
        statistics = parameters.flatten(variables.get(STATISTICS, {}))
        layers = {layer(name) for name in statistics}
        norm = {name: leaf for name, leaf in leaves.items() if layer(name) in layers}
        if self.per_step_norm:
            _check("per_step_norm", norm)
            copies = {name: _repeat(leaf, self.inner_steps) for name, leaf in norm.items()}
            params["norm"] = parameters.unflatten(copies)
        if self.per_step_statistics:
            _check("per_step_statistics", statistics)
            variables[STATISTICS] = jax.tree.map(
                lambda leaf: _repeat(leaf, self.inner_steps + 1), variables[STATISTICS]
            )
        moving, _ = self.partition(params, leaves)
        parameters.check_moving(moving)
        if self.learned_rates:
            start, _ = super().rates(params, moving)
            rates = {name: _repeat(rate, self.inner_steps) for name, rate in start.items()}
            params["rates"] = parameters.unflatten(rates)
        return variables

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables, with the statistics before the first update."""
        variables = super().unwrap(variables)
        if self.per_step_statistics:
            variables[STATISTICS] = jax.tree.map(lambda leaf: leaf[0], variables[STATISTICS])
        return variables

    def at_step(self, step: Any) -> MamlPlusPlus:
        """This objective with the annealing of ``step``."""
        # `dataclasses.replace` would need `step` to be a field that configs can set.
        objective = copy.copy(self)
        object.__setattr__(objective, "step", step)
        return objective

    # Values per step.

    def partition(self, params: Params, leaves: Leaves) -> tuple[Leaves, Leaves]:
        """The leaves that are adapted, and the others, which include those with values per step."""
        moving, rest = super().partition(params, leaves)
        own = parameters.flatten(params["norm"]) if self.per_step_norm else {}
        rest = {name: leaf for name, leaf in leaves.items() if name in rest or name in own}
        return {name: leaf for name, leaf in moving.items() if name not in own}, rest

    def rates(self, params: Params, leaves: Leaves) -> tuple[Leaves, bool]:
        """The learned rates with ``learned_rates``, else the fixed rates."""
        if not self.learned_rates:
            return super().rates(params, leaves)
        return parameters.flatten(params["rates"]), True

    def model_at(
        self, params: Params, leaves: Leaves, model_state: ModelState, step: Any
    ) -> tuple[dict[str, Any], ModelState]:
        """With the normalisation after ``step`` updates."""
        at = jnp.minimum(step, self.inner_steps)
        if self.per_step_norm:
            later = parameters.flatten(params["norm"])
            chosen = {
                name: jnp.concatenate([leaves[name][None], copies])[at]
                for name, copies in later.items()
            }
            leaves = {**leaves, **chosen}
        if self.per_step_statistics:
            slices = jax.tree.map(lambda leaf: leaf[at], model_state[STATISTICS])
            model_state = {**model_state, STATISTICS: slices}
        return parameters.unflatten(leaves), model_state

    def keep_state(self, old: ModelState, new: ModelState, step: Any) -> ModelState:
        """``old`` with the statistics after ``step`` updates from ``new``."""
        if not self.per_step_statistics:
            return new
        at = jnp.minimum(step, self.inner_steps)
        return {**new, STATISTICS: _put(old[STATISTICS], at, new[STATISTICS])}

    # Training.

    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The weighted sum of the query losses after each update on the support set."""
        several = self._multi_step and self.step is not None
        return self._loss(
            params, model_state, episode, rng, several=several, first_order=self.first_order
        )

    def episode_gradients(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `episode_loss`, first-order for the first ``first_order_steps`` steps."""
        ends = {self.first_order_steps}
        if self._multi_step:
            ends.add(self.multi_step_loss_steps)
        starts = sorted({0} | ends)

        # One branch per phase, so that a phase computes only what it needs.
        def phase(start: int) -> Any:
            loss = functools.partial(
                self._loss,
                several=self._multi_step and start < self.multi_step_loss_steps,
                first_order=self.first_order or start < self.first_order_steps,
            )
            return jax.grad(loss, has_aux=True)

        if self.step is None or len(starts) == 1:
            return phase(starts[-1])(params, model_state, episode, rng)
        index = sum(jnp.asarray(self.step >= start, jnp.int32) for start in starts[1:])
        return jax.lax.switch(
            index, [phase(start) for start in starts], params, model_state, episode, rng
        )

    @property
    def _multi_step(self) -> bool:
        return self.multi_step_loss and self.inner_steps > 1

    def _loss(
        self,
        params: Params,
        model_state: ModelState,
        episode: Episode,
        rng: PRNGKeyArray,
        *,
        several: bool,
        first_order: bool,
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The loss of one episode; ``several``: with the query losses before the last update."""
        steps = self.inner_steps
        keys = jax.random.split(rng, steps + 1)
        learner = Learner(self, self.network, params, model_state, episode)
        result = learner.adapt(
            steps,
            keys=keys[:-1],
            first_order=first_order,
            observe=(lambda leaves, _: leaves) if several else None,
            states=self.per_step_statistics,
        )
        leaves, history = result if isinstance(result, tuple) else (result, None)
        state = model_state
        if self.per_step_statistics:
            seen = history.aux[STATISTICS]
            state = {**state, STATISTICS: _put(state[STATISTICS], slice(0, steps), seen)}
        losses = None
        if several:
            # After the inner loop, since these passes start from its statistics.
            early = jax.tree.map(lambda leaf: leaf[1:-1], history.observed)
            state, losses = self._early_losses(learner, early, state, keys[-1])
        loss, (state, metrics) = learner.query_loss(leaves, state, steps, keys[-1])
        if losses is not None:
            weights = loss_weights(self.step, self.multi_step_loss_steps, steps)
            loss = jnp.sum(weights.astype(loss.dtype) * jnp.append(losses, loss))
            metrics = {**metrics, "loss": dataclasses.replace(metrics["loss"], total=loss)}
        return loss, (state, metrics)

    def _early_losses(
        self, learner: Learner, leaves: Leaves, state: ModelState, key: PRNGKeyArray
    ) -> tuple[ModelState, Float[Array, "steps"]]:
        """The updated state, and the query losses after each update but the last.

        Args:
            learner: of the episode.
            leaves: the leaves after each update but the last, stacked.
            state: the state after the inner loop.
            key: for dropout.
        """

        def loss(state: ModelState, inputs: tuple[Leaves, Any]) -> tuple[ModelState, Array]:
            leaves, step = inputs
            value, (after, _) = learner.query_loss(
                leaves, state, step, jax.random.fold_in(key, step)
            )
            # Running statistics that all steps share are updated in the last step only.
            return after if self.per_step_statistics else state, value

        if self.remat:
            loss = jax.checkpoint(loss)
        number = self.inner_steps - 1
        steps = jnp.arange(1, self.inner_steps)
        if self.unroll is not True:
            state, losses = jax.lax.scan(loss, state, (leaves, steps), unroll=int(self.unroll))
            return state, losses
        values = []
        for i in range(number):
            state, value = loss(state, jax.tree.map(lambda leaf, i=i: leaf[i], (leaves, steps)))
            values.append(value)
        return state, jnp.stack(values)


def _repeat(leaf: Array, times: int) -> Array:
    return jnp.repeat(leaf[None], times, axis=0)


def _put(old: Any, at: Any, new: Any) -> Any:
    return jax.tree.map(lambda o, n: o.at[at].set(n.astype(o.dtype)), old, new)


def _check(key: str, found: Leaves) -> None:
    if not found:
        raise ConfigError(
            f"objective.{key} is True, but the model has no batch normalisation with running"
            f" statistics; set objective.{key} = False, or use another model"
        )
