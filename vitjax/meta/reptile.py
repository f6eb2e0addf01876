"""Reptile: moving towards what plain training on each task arrives at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.meta import parameters
from vitjax.meta.episodic import Task
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.inner_loop import adapt
from vitjax.meta.network import Network
from vitjax.meta.parameters import Leaves
from vitjax.metrics.mean import Mean, Metrics
from vitjax.objectives.base import Batch, ModelState, Params, objectives

_INNER = "inner_optimizer"
# Children of a task's key.
_ORDER, _STEPS = 0, 1


@objectives.register("reptile")
@dataclasses.dataclass(frozen=True)
class Reptile(GradientBased):
    """Reptile: Nichol et al. 2018, arXiv:1803.02999, Algorithm 2.

    A task's gradient is theta - phi, from the parameters theta to those phi that ``inner_steps``
    updates on minibatches of the support set arrive at; nothing is differentiated through them. So
    the paper's outer step of size epsilon is plain SGD with epsilon for its rate: 1, falling
    linearly to 0. Queries play no part in training: the data section's ``train_shots`` make the
    support set the 10 or 15 images a class that the paper trains on.

    The inner optimizer's moments live on from task to task, as in openai/supervised-reptile, in
    evaluation too: they are the entry ``inner_optimizer`` of the model state. There, tasks follow
    one another; here those of a meta-batch all start from the same moments and leave their mean.

    Attributes:
        inner_batch_size: support images of an update, drawn by shuffled passes over the set (see
            `minibatches`); None for all of them.
        test_batch_size: the same in evaluation.
    """

    inner_learning_rate: float = 1e-3
    inner_optimizer: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "adam", "b1": 0.0}
    )
    test_steps: int | None = 50
    unroll: int | bool = 1
    # Settled by the method.
    head: str = dataclasses.field(default="learned", init=False)
    remat: bool = dataclasses.field(default=False, init=False)
    first_order: bool = dataclasses.field(default=True, init=False)
    inner_batch_size: int | None = 10
    test_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inner_batch_size", "test_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"objective.{name} is {value}; it should be at least 1, or None for all"
                )

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """As for any few-shot objective, and the inner optimizer's fresh state."""
        variables = super().wrap(rng, variables, batch)
        state = {name: tree for name, tree in variables.items() if name != "params"}
        task = jax.tree.map(lambda x: x[0], {"support": batch["support"]})
        moving, _, optimizer = Learner(self, self.network, variables["params"], state, task).parts()
        return {**variables, _INNER: pack(optimizer.init(moving))}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables."""
        return super().unwrap({k: tree for k, tree in variables.items() if k != _INNER})

    def task_loss(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The mean loss over the inner steps, whose derivative is not the method's gradient."""
        _, aux = self.task_gradients(params, model_state, task, rng)
        return aux[1]["loss"].value(), aux

    def task_gradients(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The way back from phi to theta, with loss and accuracy of the minibatches on the way.

        Running statistics move by the mean of the inner steps' statistics.
        """
        trained = self._train(
            self.network, params, model_state, task, rng, self.inner_steps, self.inner_batch_size
        )
        moved, (states, metrics) = trained.leaves, trained.history.aux
        start = parameters.flatten(params["model"])
        gradients = {
            name: leaf - moved[name] if name in moved else jnp.zeros_like(leaf)
            for name, leaf in start.items()
        }
        state = jax.tree.map(lambda x: jnp.mean(x, axis=0), states)
        metrics = {
            name: Mean(jnp.mean(mean.total), jnp.mean(mean.count)) for name, mean in metrics.items()
        }
        return {"model": parameters.unflatten(gradients)}, (
            {**state, _INNER: trained.optimizer_state},
            metrics,
        )

    def observe_task(
        self,
        params: Params,
        model_state: ModelState,
        task: Task,
        see: Callable[[Learner, Leaves, Any], Any],
    ) -> Any:
        """What ``see`` gives before the first of ``test_steps`` updates and after each, stacked.

        Minibatches are the same in every evaluation.
        """
        trained = self._train(
            self.network.without_regularisers(),
            params,
            model_state,
            task,
            None,
            self.test_steps or self.inner_steps,
            self.test_batch_size,
            see,
        )
        return trained.history.observed

    def _train(
        self,
        network: Network,
        params: Params,
        model_state: ModelState,
        task: Task,
        rng: PRNGKeyArray | None,
        steps: int,
        batch_size: int | None,
        see: Callable[[Learner, Leaves, Any], Any] | None = None,
    ) -> _Trained:
        """Plain training on the support set, from the kept state of the inner optimizer."""
        state = dict(model_state)
        kept = state.pop(_INNER)
        learner = Learner(self, network, params, state, task)
        moving, rest, optimizer = learner.parts()
        support = task["support"]
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
            unroll=self.unroll if see is None else 1,
            history=True,
            has_aux=True,
            per_step=(jnp.arange(steps), keys, rows),
            observe=None if see is None else lambda m, i: see(learner, {**m, **rest}, i),
            opt_state=unpack(kept, jax.eval_shape(optimizer.init, moving)),
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
    """Which examples each of ``steps`` minibatches holds.

    One shuffled pass over the examples follows another, and is cut into minibatches wherever it
    ends, so no example comes again before all others came. Those with ``mask`` False never come.
    """
    total = steps * size
    examples = jnp.maximum(jnp.sum(mask), 1)
    # A row for every pass; if there is but one example, each draw is a pass.
    passes = jnp.argsort(jax.random.uniform(key, (total, len(mask))) + ~mask, axis=1)
    draws = jnp.arange(total)
    return passes[draws // examples, draws % examples].reshape(steps, size)


def pack(state: optax.OptState) -> dict[str, Array]:
    """An optimizer's state as named floats, so that means can be taken over tasks and devices.

    Raises:
        ConfigError: it holds something that has no mean, such as a random key.
    """
    packed = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            if not jnp.issubdtype(leaf.dtype, jnp.signedinteger):
                raise ConfigError(
                    f"objective.inner_optimizer keeps {leaf.dtype} numbers, of which no mean can be"
                    " taken over the tasks of a batch; adam and sgd keep none"
                )
            leaf = leaf.astype(jnp.float32)
        packed[_name(path)] = leaf
    return packed


def unpack(packed: Mapping[str, Array], like: optax.OptState) -> Any:
    """What `pack` packed, with the structure and dtypes of ``like``."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)

    def restore(path: Any, shape: Any) -> Array:
        leaf = packed[_name(path)]
        if jnp.issubdtype(shape.dtype, jnp.signedinteger):
            leaf = jnp.round(leaf)
        return leaf.astype(shape.dtype)

    return jax.tree.unflatten(structure, [restore(path, shape) for path, shape in leaves])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")
