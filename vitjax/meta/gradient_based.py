"""Learning by a few gradient steps on the support set: what MAML and its relatives share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from vitjax.meta import parameters
from vitjax.meta.episodic import Answering, Answers, Measures, Task
from vitjax.meta.inner_loop import adapt, scale_by_rates
from vitjax.meta.network import Network, Part, masked_mean, present_classes
from vitjax.meta.parameters import Leaves
from vitjax.objectives.base import ModelState, Params
from vitjax.objectives.metrics import Mean, Metrics
from vitjax.optax_names import find_optimizer
from vitjax.registry import ConfigError, check_keywords, near_match

HEADS = ("learned", "zeros", "prototypes")
STATISTICS = ("support", "running")


@dataclasses.dataclass(frozen=True)
class GradientBased(Answering):
    """Adapts a copy of the model to each task's support set, step by step.

    Losses are means over examples: an inner rate here is as many times that of cbfinn/maml as there
    are ways, since its inner loss is a sum over ways of means over shots.

    Attributes:
        inner_steps: updates in training.
        inner_learning_rate: their rate, for the mean loss of the support set.
        head_learning_rate: that of the last layer; None for the same.
        inner_optimizer: ``{"name": "sgd"}`` or any optax optimizer that takes a learning rate, with
            its keywords; Adam wants ``eps_root=1e-8``, without which its second derivative is NaN.
        test_steps: updates in evaluation; None for ``inner_steps``.
        adapted: regular expressions; parameters whose name one is found in are adapted.
        fixed: parameters that stay as they are within a task, though ``adapted`` has them.
        head: what the last layer starts a task from: its ``"learned"`` value, ``"zeros"``, or the
            support set's ``"prototypes"`` (`parameters.prototype_head`).
        inductive_statistics: what batch normalisation takes for single queries: the moments of the
            ``"support"`` set under the adapted parameters, or the ``"running"`` ones of training.
        remat: trade time for memory, see `adapt`.
        unroll: see `adapt`.
        first_order: leave out second derivatives, see `adapt`.
    """

    inner_steps: int = 5
    inner_learning_rate: float = 0.01
    head_learning_rate: float | None = None
    inner_optimizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "sgd"})
    test_steps: int | None = None
    adapted: Sequence[str] = (r"",)
    fixed: Sequence[str] = ()
    head: str = "learned"
    inductive_statistics: str = "support"
    remat: bool = False
    unroll: int | bool = True
    first_order: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _choice("head", self.head, HEADS)
        _choice("inductive_statistics", self.inductive_statistics, STATISTICS)
        for name in ("inner_steps", "test_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"objective.{name} is {value}; it should be at least 1")
        for name in ("inner_learning_rate", "head_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"objective.{name} is {value}; a rate is above 0")
        if self.task == "regression" and self.head == "prototypes":
            raise ConfigError("objective.head is 'prototypes', and a regression has no classes")
        if not isinstance(self.unroll, bool) and self.unroll < 1:
            raise ConfigError(
                f"objective.unroll is {self.unroll}; it should be at least 1, or True"
            )
        self._unit_optimizer()

    # What a method may change.

    def partition(self, params: Params, leaves: Leaves) -> tuple[Leaves, Leaves]:
        """The leaves that are adapted, and the others."""
        del params
        return parameters.partition(leaves, self.adapted, self.fixed)

    def inner_loss(self, loss: Array, moving: Leaves, start: Leaves) -> Array:
        """What the inner loop lowers, from the support set's ``loss`` at ``moving``.

        Args:
            loss: the mean over the support set.
            moving: the adapted leaves.
            start: the same before the first update.
        """
        del moving, start
        return loss

    def rates(self, params: Params, leaves: Leaves) -> tuple[Leaves, bool]:
        """A rate for each adapted leaf, and whether rates have a leading axis over steps."""
        head = (
            self.inner_learning_rate if self.head_learning_rate is None else self.head_learning_rate
        )
        rate = {True: head, False: self.inner_learning_rate}
        return {
            name: jnp.asarray(rate[parameters.matches(name, (parameters.HEAD,))], leaf.dtype)
            for name, leaf in leaves.items()
        }, False

    def start(self, name: str, leaf: Any) -> Any:
        """What a leaf of the model starts a task from."""
        del name
        return leaf

    def model_at(
        self, params: Params, leaves: Leaves, model_state: ModelState, step: Any
    ) -> tuple[dict[str, Any], ModelState]:
        """The model's parameters and state after ``step`` updates, from the task's ``leaves``."""
        del params, step
        return parameters.unflatten(leaves), model_state

    def keep_state(self, old: ModelState, new: ModelState, step: Any) -> ModelState:
        """The state to go on with, given the ``new`` one of the model after ``step`` updates."""
        del old, step
        return new

    # Training.

    def task_loss(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The loss of the queries after ``inner_steps`` updates on the support set."""
        keys = jax.random.split(rng, self.inner_steps + 1)
        learner = Learner(self, self.network, params, model_state, task)
        leaves = learner.adapt(self.inner_steps, keys=keys[:-1])
        loss, (state, metrics) = learner.query_loss(leaves, model_state, self.inner_steps, keys[-1])
        return loss, (state, metrics)

    # Evaluation.

    def measure_task(self, params: Params, model_state: ModelState, task: Task) -> Measures:
        """Both modes, before the first of ``test_steps`` updates and after each."""
        return self.observe_task(params, model_state, task, Learner.measure)

    def answer_task(self, params: Params, model_state: ModelState, task: Task) -> Answers:
        """Both modes, before the first of ``test_steps`` updates and after each."""
        return self.observe_task(params, model_state, task, Learner.answers)

    def observe_task(
        self,
        params: Params,
        model_state: ModelState,
        task: Task,
        see: Callable[[Learner, Leaves, Any], Any],
    ) -> Any:
        """What ``see`` gives before the first of ``test_steps`` updates and after each, stacked."""
        network = self.network.without_regularisers()
        learner = Learner(self, network, params, model_state, task)
        _, history = learner.adapt(
            self.test_steps or self.inner_steps,
            observe=functools.partial(see, learner),
            unroll=1,
            first_order=True,
        )
        return history.observed

    def _unit_optimizer(self) -> optax.GradientTransformation:
        """The inner optimizer at a rate of one, so that rates can be each leaf's own."""
        keywords = dict(self.inner_optimizer)
        where = "config.objective.inner_optimizer"
        constructor = find_optimizer(keywords.pop("name", None), f"{where}.name")
        check_keywords(constructor, keywords, where=where, given=("learning_rate",))
        return constructor(learning_rate=1.0, **keywords)


@dataclasses.dataclass(frozen=True)
class Learner:
    """One task's copy of a model.

    Attributes:
        objective: how it learns.
        network: the model.
        params: of the objective.
        model_state: before the task.
        task: ``support`` and ``query``.
    """

    objective: GradientBased
    network: Network
    params: Params
    model_state: ModelState
    task: Task

    def leaves(self) -> Leaves:
        """The model's parameters as the task starts from them."""
        objective, support = self.objective, self.task["support"]
        leaves = parameters.flatten(self.params["model"])
        leaves = parameters.replace(leaves, objective.start)
        if objective.head == "learned":
            return leaves
        kernel, bias = parameters.head_names(leaves)
        if objective.head == "zeros":
            return {
                **leaves,
                kernel: jnp.zeros_like(leaves[kernel]),
                bias: jnp.zeros_like(leaves[bias]),
            }
        onehot = jax.nn.one_hot(support["target"], objective.num_classes)
        centers = parameters.prototypes(
            self.features(leaves, support), onehot * support["mask"][:, None]
        )
        weight, offset = parameters.prototype_head(centers)
        return {
            **leaves,
            kernel: weight.astype(leaves[kernel].dtype),
            bias: offset.astype(leaves[bias].dtype),
        }

    def features(self, leaves: Leaves, part: Part) -> Array:
        """What the head reads, under the statistics of ``part``."""
        bodiless = dataclasses.replace(
            self.network.without_regularisers(), model=self.network.model.clone(num_classes=None)
        )
        body = {
            n: leaf for n, leaf in leaves.items() if not parameters.matches(n, (parameters.HEAD,))
        }
        params, state = self.objective.model_at(self.params, body, self.model_state, 0)
        return bodiless.apply(params, state, part["input"], train=True)[0]

    def adapt(
        self,
        steps: int,
        *,
        keys: Array | None = None,
        observe: Callable[[Leaves, Any], Any] | None = None,
        first_order: bool | None = None,
        unroll: int | bool | None = None,
        states: bool = False,
    ) -> Any:
        """The leaves after ``steps`` updates; with ``observe`` or ``states`` also the `History`.

        ``states``: its ``aux`` is the model's state after each pass over the support set.
        """
        objective = self.objective
        moving, rest, optimizer = self.parts()

        def loss(adapted: Leaves, _: None, extra: Any) -> Any:
            step, key = extra
            value, state = self.support_loss({**adapted, **rest}, step, key)
            value = objective.inner_loss(value, adapted, moving)
            return (value, state) if states else value

        result = adapt(
            loss,
            moving,
            None,
            steps=steps,
            optimizer=optimizer,
            first_order=objective.first_order if first_order is None else first_order,
            remat=objective.remat,
            unroll=objective.unroll if unroll is None else unroll,
            per_step=(jnp.arange(steps), keys),
            has_aux=states,
            history=states,
            observe=None if observe is None else lambda m, i: observe({**m, **rest}, i),
        )
        if observe is None and not states:
            return {**result, **rest}
        return {**result[0], **rest}, result[1]

    def parts(self) -> tuple[Leaves, Leaves, optax.GradientTransformation]:
        """The leaves that are adapted, those that stay, and what adapts them."""
        objective = self.objective
        moving, rest = objective.partition(self.params, self.leaves())
        rates, per_step = objective.rates(self.params, moving)
        optimizer = optax.chain(
            objective._unit_optimizer(), scale_by_rates(rates, per_step=per_step)
        )
        return moving, rest, optimizer

    def support_loss(self, leaves: Leaves, step: Any, key: Any = None) -> tuple[Array, ModelState]:
        """The support set's mean loss after ``step`` updates, and the state after it."""
        support = self.task["support"]
        params, state = self.objective.model_at(self.params, leaves, self.model_state, step)
        outputs, state = self.network.apply(params, state, support["input"], train=True, rng=key)
        losses = self.network.losses(outputs, support["target"], self.present())
        return masked_mean(losses, support["mask"]), state

    def query_loss(
        self, leaves: Leaves, state: ModelState, step: Any, key: Any = None
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The queries' mean loss after ``step`` updates, ``(state, metrics)``; transductive."""
        return self.part_loss(self.task["query"], leaves, state, step, key)

    def part_loss(
        self, part: Part, leaves: Leaves, state: ModelState, step: Any, key: Any = None
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The mean loss of ``part`` under its own statistics, ``(state, metrics)``."""
        params, before = self.objective.model_at(self.params, leaves, state, step)
        outputs, after = self.network.apply(params, before, part["input"], train=True, rng=key)
        losses = self.network.losses(outputs, part["target"], self.present())
        loss = masked_mean(losses, part["mask"])
        metrics = {"loss": Mean(loss, jnp.ones_like(loss))}
        if not self.network.regression:
            correct = self.network.correct(outputs, part["target"], self.present())
            metrics["accuracy"] = Mean.of(correct, part["mask"])
        return loss, (self.objective.keep_state(state, after, step), metrics)

    def measure(self, leaves: Leaves, step: Any) -> Measures:
        """Loss and accuracy of the queries after ``step`` updates, in both modes."""
        return {mode: self.worth(values) for mode, values in self.answers(leaves, step).items()}

    def answers(self, leaves: Leaves, step: Any) -> dict[str, Array]:
        """The outputs for the queries after ``step`` updates, in both modes."""
        network, query = self.network, self.task["query"]
        params, state = self.objective.model_at(self.params, leaves, self.model_state, step)
        transductive, _ = network.apply(params, state, query["input"], train=True)
        if not state:
            return {"transductive": transductive, "inductive": transductive}
        if self.objective.inductive_statistics == "support":
            state = network.moments(params, state, self.task["support"]["input"])
        inductive, _ = network.apply(params, state, query["input"], train=False)
        return {"transductive": transductive, "inductive": inductive}

    def worth(self, outputs: Array) -> dict[str, Array]:
        """The queries' mean loss and accuracy."""
        query = self.task["query"]
        losses = self.network.losses(outputs, query["target"], self.present())
        worth = {"loss": masked_mean(losses, query["mask"])}
        if not self.network.regression:
            correct = self.network.correct(outputs, query["target"], self.present())
            worth["accuracy"] = masked_mean(correct, query["mask"])
        return worth

    def present(self) -> Array | None:
        """Which classes the task has."""
        if self.network.regression:
            return None
        return present_classes(self.task["support"], self.objective.num_classes)


def _choice(key: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"objective.{key} is {value!r}{near_match(str(value), known)} (choices:"
            f" {', '.join(known)})"
        )
