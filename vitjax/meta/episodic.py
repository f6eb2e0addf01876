"""What all few-shot objectives share: a batch is a batch of tasks."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.meta import mapping
from vitjax.meta.network import Network, only, present_classes
from vitjax.metrics.mean import Mean, Metrics
from vitjax.objectives.base import Batch, ModelState, Objective, Params

MODES = ("transductive", "inductive")

Self = TypeVar("Self", bound="Episodic")
Task = Mapping[str, Any]
# {mode: {"loss": (steps + 1,), "accuracy": (steps + 1,)}} of one task.
Measures = dict[str, dict[str, Array]]
# {mode: (steps + 1, queries, outputs)} of one task.
Answers = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Episodic(Objective):
    """An objective over tasks; a subclass says what one task's loss is.

    A batch holds ``support`` and ``query``, each with ``input``, ``target``, ``class`` and ``mask``
    of leading axes (tasks, examples), and ``mask`` (tasks,). The parameters are
    ``{"model": the model's, ...}``, beside which a method keeps what else it learns.

    Attributes:
        num_classes: outputs of the model: the most ways of an episode.
        normalize: maps a batch's inputs to what the model is fed.
        task: ``"classification"`` or ``"regression"``.
        tasks_at_once: the most tasks that a device computes at once, the others of its share
            waiting; None takes what is fastest and fits into memory, see `vitjax.meta.mapping`.
        devices: over how many devices a batch is spread by the compiler.
    """

    num_classes: int
    normalize: Callable[[Array], Array]
    task: str = "classification"
    tasks_at_once: int | None = None
    devices: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.tasks_at_once is not None and self.tasks_at_once < 1:
            raise ConfigError(
                f"objective.tasks_at_once is {self.tasks_at_once}; it should be at least 1"
            )

    @property
    def network(self) -> Network:
        """The model as episodes use it."""
        return Network(self.model.for_inner_loops(), self.normalize, self.task == "regression")

    @abc.abstractmethod
    def task_loss(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The loss of one task, and ``(new model_state, metrics)``; no leading axis anywhere."""

    @abc.abstractmethod
    def measure_task(self, params: Params, model_state: ModelState, task: Task) -> Measures:
        """Loss and accuracy on one task's queries before adaptation and after each step.

        For both `MODES`: ``transductive`` normalises queries by their own batch's statistics,
        ``inductive`` by none of theirs, so that each query has the answer it would have alone.
        """

    def meta_parameters(self, model_params: Params) -> dict[str, Any]:
        """What is learned beside the model's parameters: further entries of ``params``."""
        del model_params
        return {}

    def check_model(self, model_params: Params) -> None:
        """Raises ConfigError if the objective cannot use a model of these parameters."""
        del model_params

    def inputs(self, batch: Batch) -> Any:
        """One task's support set."""
        return self.normalize(batch["support"]["input"][0])

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """``{"params": {"model": ..., ...}, "batch_stats": ..., ...}``.

        Raises:
            ConfigError: the objective cannot use the model, see `check_model`.
        """
        del rng, batch
        state = dict(variables)
        params = state.pop("params")
        self.check_model(params)
        return {"params": {"model": params, **self.meta_parameters(params)}, **state}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables, without what is learned beside them."""
        return {**variables, "params": variables["params"]["model"]}

    def task_gradients(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `task_loss`; a method with one of its own overrides this."""
        return jax.grad(self.task_loss, has_aux=True)(params, model_state, task, rng)

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean of `task_loss` over the batch's tasks."""
        total, weight, (model_state, metrics) = self._sum(
            self.task_loss, params, model_state, batch, rng
        )
        return total / weight, (model_state, metrics)

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The mean of `task_gradients` over the batch's tasks, added up as they are computed."""
        total, weight, aux = self._sum(self.task_gradients, params, model_state, batch, rng)
        gradients = jax.tree.map(lambda g, p: (g / weight).astype(p.dtype), total, params)
        return gradients, aux

    def _sum(
        self,
        function: Callable[..., Any],
        params: Params,
        model_state: ModelState,
        batch: Batch,
        rng: PRNGKeyArray,
    ) -> tuple[Any, Array, tuple[ModelState, Metrics]]:
        """Sums ``function`` over the tasks: (sum, the devices' mean weight, (state, metrics))."""
        weights = batch["mask"].astype(jnp.float32)
        tasks = {
            "support": batch["support"],
            "query": batch["query"],
            # Key data, since typed keys cannot be cut.
            "rng": jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(rng, i)))(
                jnp.arange(len(weights))
            ),
        }

        def one(task: Task) -> Any:
            key = jax.random.wrap_key_data(task["rng"])
            return function(params, model_state, task, key)

        total, (states, metrics) = mapping.sum_over_tasks(
            one, tasks, weights, self._pieces(one, tasks)
        )
        weight = jnp.sum(weights)

        def mean(sum_: Array, old: Array) -> Array:
            new = sum_ / jnp.maximum(weight, 1)
            return jnp.where(weight > 0, new, old).astype(old.dtype)

        model_state = jax.tree.map(mean, states, dict(model_state))
        if self.axis_name is not None:
            weight = jax.lax.pmean(weight, self.axis_name)
        return total, jnp.maximum(weight, 1e-9), (model_state, metrics)

    def measure(self, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """`measure_task` of each task, stacked: {mode: {"loss": (tasks, steps + 1), ...}}."""
        state = dict(variables)
        params = state.pop("params")
        tasks = {key: value for key, value in batch.items() if key != "mask"}

        def one(task: Task) -> Measures:
            return self.measure_task(params, state, task)

        return mapping.map_over_tasks(one, tasks, self._pieces(one, tasks))

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Loss and accuracy after the last step: transductive, and ``_inductive``.

        And ``_before`` the first step, transductive, which for a fair classification is one in as
        many as there are ways; methods that do not adapt have no before.
        """
        measures, mask = self.measure(variables, batch), batch["mask"]
        metrics = {}
        for name, values in measures["transductive"].items():
            metrics[name] = Mean.of(values[:, -1], mask)
            metrics[f"{name}_inductive"] = Mean.of(measures["inductive"][name][:, -1], mask)
            if values.shape[1] > 1:
                metrics[f"{name}_before"] = Mean.of(values[:, 0], mask)
        return metrics

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective under ``pmap``. A task's batch statistics stay its own."""
        return dataclasses.replace(self, axis_name=axis_name, devices=1)

    def _pieces(self, function: Callable[[Any], Any], tasks: Any) -> int:
        return mapping.pieces(function, tasks, devices=self.devices, at_once=self.tasks_at_once)


@dataclasses.dataclass(frozen=True)
class Answering(Episodic):
    """A few-shot objective that also tells what it answers to each query, not only its worth."""

    @abc.abstractmethod
    def answer_task(self, params: Params, model_state: ModelState, task: Task) -> Answers:
        """The model's outputs for one task's queries, wherever `measure_task` measures them."""

    def answer(self, variables: Mapping[str, Any], batch: Batch) -> Answers:
        """`answer_task` of each task, stacked: {mode: (tasks, steps + 1, queries, outputs)}."""
        state = dict(variables)
        params = state.pop("params")
        tasks = {"support": batch["support"], "query": batch["query"]}

        def one(task: Task) -> Answers:
            return self.answer_task(params, state, task)

        return mapping.map_over_tasks(one, tasks, self._pieces(one, tasks))

    def query_probabilities(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> dict[str, Float[Array, "tasks queries ways"]]:
        """The probability of each class for each query after the last step, in both `MODES`.

        NaN for the classes that the episode does not show, whose queries count nowhere.
        """
        present = jax.vmap(lambda support: present_classes(support, self.num_classes))(
            batch["support"]
        )
        present = present[:, None]
        return {
            mode: jnp.where(
                present, jax.nn.softmax(only(outputs[:, -1], present), axis=-1), jnp.nan
            )
            for mode, outputs in self.answer(variables, batch).items()
        }
