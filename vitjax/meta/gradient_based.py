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

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, check_patterns, matches
from vitjax.core.validation import check_choice, check_keywords, keywords_of
from vitjax.meta import parameters
from vitjax.meta.episodic import Answering, Answers, Measures, Task
from vitjax.meta.inner_loop import adapt, scale_by_rates
from vitjax.meta.network import STATISTICS, Network, Part, masked_mean, present_classes
from vitjax.meta.parameters import Leaves
from vitjax.metrics.mean import Mean, Metrics
from vitjax.objectives.base import ModelState, Params
from vitjax.optim.lookup import find_optimizer

HEADS = ("learned", "zeros", "prototypes")

_OPTIMIZER = "config.objective.inner_optimizer"
# Adam's root has no second derivative at zero; this much under it has.
_EPS_ROOT = 1e-8


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
            its keywords. Where second derivatives are taken, Adam and its like get
            ``eps_root=1e-8`` unless it is given: without, a gradient of zero makes them NaN.
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
        check_choice("objective.head", self.head, HEADS)
        check_choice("objective.inductive_statistics", self.inductive_statistics, STATISTICS)
        for name in ("adapted", "fixed"):
            check_expressions(getattr(self, name), f"config.objective.{name}")
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
        self._try_optimizer()

    @property
    def second_order(self) -> bool:
        """Whether training differentiates through the inner gradients."""
        return not self.first_order

    def check_model(self, model_params: Params) -> None:
        """Raises ConfigError for patterns that match no parameter, or leave none to adapt."""
        leaves = parameters.flatten(model_params)
        for name in ("adapted", "fixed"):
            patterns = getattr(self, name)
            check_patterns(patterns, list(leaves), f"config.objective.{name}")
        parameters.check_moving(parameters.partition(leaves, self.adapted, self.fixed)[0])

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
            name: jnp.asarray(rate[matches(name, (parameters.HEAD,))], leaf.dtype)
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
        constructor = find_optimizer(keywords.pop("name", None), f"{_OPTIMIZER}.name")
        check_keywords(constructor, keywords, where=_OPTIMIZER, given=("learning_rate",))
        eps_root = keywords_of(constructor).get("eps_root")
        if self.second_order and eps_root is not None and not eps_root.default:
            keywords.setdefault("eps_root", _EPS_ROOT)
        return constructor(learning_rate=1.0, **keywords)

    def _try_optimizer(self) -> None:
        """Raises ConfigError if the inner optimizer cannot be made, or cannot update."""
        tree = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}

        def once(tree: Any) -> Any:
            optimizer = self._unit_optimizer()
            return optimizer.update(tree, optimizer.init(tree), tree)

        try:
            # Nothing is computed.
            jax.eval_shape(once, tree)
        except ConfigError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(
                f"{_OPTIMIZER}: {dict(self.inner_optimizer)} cannot be used; it should be an"
                " optimizer that updates by gradients alone, with values that it takes:"
                f" {reason[0]}"
            ) from error


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
        body = {n: leaf for n, leaf in leaves.items() if not matches(n, (parameters.HEAD,))}
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
        metrics = self.network.worth(outputs, part, self.present())
        loss = metrics["loss"].value()
        # Tasks weigh the same, however many of their queries count.
        metrics["loss"] = Mean(loss, jnp.ones_like(loss))
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
        how = self.objective.inductive_statistics
        state = network.inductive_state(params, state, self.task["support"]["input"], how)
        inductive, _ = network.apply(params, state, query["input"], train=False)
        return {"transductive": transductive, "inductive": inductive}

    def worth(self, outputs: Array) -> dict[str, Array]:
        """The queries' mean loss and accuracy."""
        worth = self.network.worth(outputs, self.task["query"], self.present())
        return {name: mean.value() for name, mean in worth.items()}

    def present(self) -> Array | None:
        """Which classes the task has."""
        if self.network.regression:
            return None
        return present_classes(self.task["support"], self.objective.num_classes)
