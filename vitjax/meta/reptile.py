"""Reptile: moves the parameters towards the result of plain training on each episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveFloat, PositiveInt, Repetitions
from vitjax.meta import parameters
from vitjax.meta.episodic import Answers, Episode
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.inner_loop import adapt
from vitjax.meta.network import Network, Part
from vitjax.meta.parameters import Leaves
from vitjax.metrics import Metrics
from vitjax.objectives.base import Batch, ModelState, Params, objectives

_INNER = "inner_optimizer"
# Children of an episode's key.
_ORDER, _STEPS = 0, 1


@objectives.register("reptile")
@dataclasses.dataclass(frozen=True)
class Reptile(GradientBased):
    """Reptile: Nichol et al. 2018, arXiv:1803.02999, Algorithm 2.

    An episode's gradient is theta - phi, where phi are the parameters theta after ``inner_steps``
    updates on minibatches of the support set; the updates are not differentiated. The paper's outer
    step of size epsilon is therefore plain SGD with the learning rate epsilon, which decreases
    linearly from 1 to 0. Training does not use the queries: ``train_shots`` of the data section
    sets the 10 or 15 images per class that the paper trains on.

    The inner optimizer's moments carry over from episode to episode, as in
    openai/supervised-reptile, also to evaluation: they are the entry ``inner_optimizer`` of the
    model state. In that code episodes are sequential; here all episodes of a meta-batch start from
    the same moments, and the mean of their moments is kept.

    Attributes:
        inner_batch_size: number of support images per update, drawn in shuffled passes over the
            support set (see `minibatches`); None for all of them.
        test_batch_size: the same in evaluation.
    """

    inner_learning_rate: PositiveFloat = 1e-3
    inner_optimizer: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "adam", "b1": 0.0}
    )
    test_steps: Repetitions | None = 50
    unroll: Repetitions | bool = 1
    # Determined by the method.
    head: Literal["learned"] = dataclasses.field(default="learned", init=False)
    remat: bool = dataclasses.field(default=False, init=False)
    first_order: bool = dataclasses.field(default=True, init=False)
    inner_batch_size: PositiveInt | None = 10
    test_batch_size: PositiveInt | None = None

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """As for any few-shot objective, with the inner optimizer's initial state."""
        variables = super().wrap(rng, variables, batch)
        state = {name: tree for name, tree in variables.items() if name != "params"}
        episode = jax.tree.map(lambda x: x[0], {"support": batch["support"]})
        learner = Learner(self, self.network, variables["params"], state, episode)
        moving, _, optimizer = learner.parts()
        return {**variables, _INNER: pack(optimizer.init(moving))}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables."""
        return super().unwrap({k: tree for k, tree in variables.items() if k != _INNER})

    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The mean loss over the inner steps; its derivative is not the method's gradient."""
        _, aux = self.episode_gradients(params, model_state, episode, rng)
        return aux[1]["loss"].value(), aux

    def episode_gradients(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient theta - phi, with the mean loss and accuracy of the minibatches.

        Running statistics are updated with the mean over the inner steps.
        """
        trained = self._train(
            self.network, params, model_state, episode, rng, self.inner_steps, self.inner_batch_size
        )
        moved, (states, metrics) = trained.leaves, trained.history.aux
        start = parameters.flatten(params["model"])
        gradients = {
            name: leaf - moved[name] if name in moved else jnp.zeros_like(leaf)
            for name, leaf in start.items()
        }
        state, metrics = jax.tree.map(lambda x: jnp.mean(x, axis=0), (states, metrics))
        return {"model": parameters.unflatten(gradients)}, (
            {**state, _INNER: trained.optimizer_state},
            metrics,
        )

    def answer_episode(self, params: Params, model_state: ModelState, episode: Episode) -> Answers:
        """Both modes, before the first of ``test_steps`` updates and after each.

        Minibatches are the same in every evaluation.
        """
        network, steps = self.network.without_regularisers(), self.test_steps or self.inner_steps
        trained = self._train(
            network, params, model_state, episode, None, steps, self.test_batch_size, observe=True
        )
        answers: Answers = trained.history.observed
        return answers

    # As of any gradient-based method, by the leaves below.
    adapt_to = GradientBased.adapt_to
    answer_adapted = GradientBased.answer_adapted

    def adapted_leaves(
        self,
        network: Network,
        params: Params,
        model_state: ModelState,
        support: Part,
        steps: int,
    ) -> tuple[Leaves, ModelState]:
        """The leaves after ``steps`` minibatches, and the state without the inner optimizer's."""
        trained = self._train(
            network, params, model_state, {"support": support}, None, steps, self.test_batch_size
        )
        leaves = {**parameters.flatten(params["model"]), **trained.leaves}
        return leaves, self.state_of_model(model_state)

    def state_of_model(self, model_state: ModelState) -> ModelState:
        """The state without that of the inner optimizer."""
        return {name: tree for name, tree in model_state.items() if name != _INNER}

    def _train(
        self,
        network: Network,
        params: Params,
        model_state: ModelState,
        episode: Episode,
        rng: PRNGKeyArray | None,
        steps: int,
        batch_size: int | None,
        observe: bool = False,
    ) -> _Trained:
        """Plain training on the support set, from the stored state of the inner optimizer."""
        state = dict(model_state)
        stored = state.pop(_INNER)
        learner = Learner(self, network, params, state, episode)
        moving, rest, optimizer = learner.parts()
        support = episode["support"]
        keys = rows = None
        if rng is not None:
            keys = jax.random.split(jax.random.fold_in(rng, _STEPS), steps)
        if batch_size is not None:
            order = jax.random.key(0) if rng is None else rng
            order = jax.random.fold_in(order, _ORDER)
            rows = minibatches(order, support["mask"], steps, batch_size)

        def loss(moving: Leaves, _: None, extra: Any) -> Any:
            step, key, chosen = extra
            part = support if chosen is None else jax.tree.map(lambda x: x[chosen], support)
            return learner.part_loss(part, {**moving, **rest}, state, step, key)

        leaves, history, inner = adapt(
            loss,
            moving,
            None,
            steps=steps,
            optimizer=optimizer,
            first_order=True,
            unroll=1 if observe else self.unroll,
            history=True,
            has_aux=True,
            per_step=(jnp.arange(steps), keys, rows),
            observe=(lambda m, i: learner.answers({**m, **rest}, i)) if observe else None,
            opt_state=unpack(stored, jax.eval_shape(optimizer.init, moving)),
        )
        return _Trained(leaves, history, pack(inner))


@dataclasses.dataclass(frozen=True)
class _Trained:
    leaves: Leaves
    history: Any
    optimizer_state: dict[str, Array]


def minibatches(
    key: PRNGKeyArray, mask: Bool[Array, "examples"], steps: int, size: int
) -> Int[Array, "steps size"]:
    """The indices of the examples of each minibatch.

    The minibatches are consecutive slices of a sequence of shuffled passes over the examples, so
    all examples occur before any occurs again. Examples with ``mask`` False never occur.
    """
    total = steps * size
    examples = jnp.maximum(jnp.sum(mask), 1)
    # A row per pass; with a single example, each draw is a pass.
    passes = jnp.argsort(jax.random.uniform(key, (total, len(mask))) + ~mask, axis=1)
    draws = jnp.arange(total)
    return passes[draws // examples, draws % examples].reshape(steps, size)


def pack(state: optax.OptState) -> dict[str, Array]:
    """An optimizer's state as named floats, so that it can be averaged over episodes and devices.

    Raises:
        ConfigError: the state holds something that has no mean, such as a random key.
    """
    packed = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            if not jnp.issubdtype(leaf.dtype, jnp.signedinteger):
                raise ConfigError(
                    f"objective.inner_optimizer has a state of {leaf.dtype}, which has no mean over"
                    " the episodes of a batch; it should be an optimizer such as adam or sgd"
                )
            leaf = leaf.astype(jnp.float32)
        packed[_name(path)] = leaf
    return packed


def unpack(packed: Mapping[str, Array], like: optax.OptState) -> Any:
    """The inverse of `pack`, with the structure and dtypes of ``like``."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)

    def restore(path: Any, shape: Any) -> Array:
        leaf = packed[_name(path)]
        if jnp.issubdtype(shape.dtype, jnp.signedinteger):
            leaf = jnp.round(leaf)
        return leaf.astype(shape.dtype)

    return jax.tree.unflatten(structure, [restore(path, shape) for path, shape in leaves])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")
