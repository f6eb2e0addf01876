"""Adaptation by gradient steps on the support set: what MAML and its relatives share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, check_patterns, matches
from vitjax.core.validation import OneOf, PositiveFloat, Repetitions, check_keywords, keywords_of
from vitjax.meta import parameters
from vitjax.meta.episodic import Answers, Episode, Episodic
from vitjax.meta.inner_loop import adapt, scale_by_rates
from vitjax.meta.network import STATISTICS, Network, Part, masked_mean
from vitjax.meta.parameters import Leaves
from vitjax.metrics import Metrics
from vitjax.models.protocol import Model
from vitjax.objectives.base import ModelState, Params
from vitjax.optim.arguments import annotations_of
from vitjax.optim.lookup import find_optimizer

_OPTIMIZER = "config.objective.inner_optimizer"
# Added under the square root of Adam, which has no second derivative at zero.
_EPS_ROOT = 1e-8

Self = TypeVar("Self", bound="GradientBased")


@dataclasses.dataclass(frozen=True)
class GradientBased(Episodic):
    """Adapts a copy of the model to each episode's support set by gradient steps.

    Losses are means over examples. The inner loss of cbfinn/maml is a sum over ways of means over
    shots, so an inner learning rate there corresponds to the rate times the number of ways here.

    Attributes:
        inner_steps: number of updates in training.
        inner_learning_rate: learning rate of the updates, for the mean loss of the support set.
        head_learning_rate: learning rate of the last layer; None for ``inner_learning_rate``.
        inner_optimizer: ``{"name": "sgd"}``, or any optax optimizer that takes a learning rate,
            with its keywords. Under second derivatives, Adam and its variants use ``eps_root=1e-8``
            unless it is given: without it, a gradient of zero makes the meta-gradient NaN.
        test_steps: number of updates in evaluation; None for ``inner_steps``.
        adapted: regular expressions; parameters whose names match one of them are adapted.
        fixed: regular expressions of parameters that are not adapted although ``adapted`` matches.
        head: the last layer's value before adaptation: ``"learned"``, ``"zeros"``, or the
            ``"prototypes"`` of the support set (`parameters.prototype_head`).
        inductive_statistics: what normalises queries in inductive evaluation: the moments of the
            ``"support"`` set under the adapted parameters, or the ``"running"`` averages of
            training.
        remat: trades time for memory, see `adapt`.
        unroll: see `adapt`.
        first_order: omits second derivatives, see `adapt`.
    """

    evaluation_fields: ClassVar[tuple[str, ...]] = ("test_steps",)

    inner_steps: Repetitions = 5
    inner_learning_rate: PositiveFloat = 0.01
    head_learning_rate: PositiveFloat | None = None
    inner_optimizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "sgd"})
    test_steps: Repetitions | None = None
    adapted: Sequence[str] = (r"",)
    fixed: Sequence[str] = ()
    head: Literal["learned", "zeros", "prototypes"] = "learned"
    inductive_statistics: Annotated[str, OneOf(STATISTICS)] = "support"
    remat: bool = False
    unroll: Repetitions | bool = True
    first_order: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("adapted", "fixed"):
            check_expressions(getattr(self, name), f"config.objective.{name}")
        if self.regression and self.head == "prototypes":
            raise ConfigError(
                "objective.head is 'prototypes'; prototypes need classes, and this data is a"
                " regression"
            )
        self._try_optimizer()

    @classmethod
    def check_section(cls, arguments: Mapping[str, Any]) -> None:
        """Checks the inner optimizer and the patterns."""
        super().check_section(arguments)
        for name in ("adapted", "fixed"):
            check_expressions(arguments.get(name, ()), f"config.objective.{name}")
        if "inner_optimizer" in arguments:
            _inner_optimizer(arguments["inner_optimizer"])

    @property
    def second_order(self) -> bool:
        """Whether training differentiates through the inner gradients."""
        return not self.first_order

    @property
    def compilation_hint(self) -> str:
        """That ``unroll=1`` compiles a single inner step in place of all."""
        if self.unroll is not True or self.remat or self.inner_steps == 1:
            return ""
        return (
            f"config.objective.unroll=1 compiles one inner step in place of {self.inner_steps}, and"
            " is a little slower in training"
        )

    def check_model(self, model_params: Params) -> None:
        """Raises ConfigError for a pattern that matches no parameter, or if none is adapted."""
        leaves = parameters.flatten(model_params)
        for name in ("adapted", "fixed"):
            patterns = getattr(self, name)
            check_patterns(patterns, list(leaves), f"config.objective.{name}")
        parameters.check_moving(parameters.partition(leaves, self.adapted, self.fixed)[0])

    def in_head(self, name: str) -> bool:
        """Whether the parameter ``name`` belongs to the last layer."""
        return matches(name, (self.model.head_pattern,))

    # Methods that a subclass may override.

    def partition(self, params: Params, leaves: Leaves) -> tuple[Leaves, Leaves]:
        """The leaves that are adapted, and the others."""
        del params
        return parameters.partition(leaves, self.adapted, self.fixed)

    def inner_loss(self, loss: Array, moving: Leaves, start: Leaves) -> Array:
        """The loss that the inner loop minimises.

        Args:
            loss: the mean loss of the support set at ``moving``.
            moving: the adapted leaves.
            start: their values before the first update.
        """
        del moving, start
        return loss

    def rates(self, params: Params, leaves: Leaves) -> tuple[Leaves, bool]:
        """The rate of each adapted leaf, and whether the rates have a leading axis of steps."""
        body = self.inner_learning_rate
        head = body if self.head_learning_rate is None else self.head_learning_rate
        return {
            name: jnp.asarray(head if self.in_head(name) else body, leaf.dtype)
            for name, leaf in leaves.items()
        }, False

    def start(self, name: str, leaf: Any) -> Any:
        """The value of a leaf of the model before adaptation."""
        del name
        return leaf

    def model_at(
        self, params: Params, leaves: Leaves, model_state: ModelState, step: Any
    ) -> tuple[dict[str, Any], ModelState]:
        """The model's parameters and state after ``step`` updates, given the adapted ``leaves``."""
        del params, step
        return parameters.unflatten(leaves), model_state

    def keep_state(self, old: ModelState, new: ModelState, step: Any) -> ModelState:
        """The state to keep, given the model's ``new`` one after ``step`` updates."""
        del old, step
        return new

    # Training.

    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The loss of the queries after ``inner_steps`` updates on the support set."""
        keys = jax.random.split(rng, self.inner_steps + 1)
        learner = Learner(self, self.network, params, model_state, episode)
        leaves = learner.adapt(self.inner_steps, keys=keys[:-1])
        return learner.query_loss(leaves, model_state, self.inner_steps, keys[-1])

    # Evaluation.

    def answer_episode(self, params: Params, model_state: ModelState, episode: Episode) -> Answers:
        """Both modes, before the first of ``test_steps`` updates and after each."""
        network = self.network.without_regularisers()
        learner = Learner(self, network, params, model_state, episode)
        _, history = learner.adapt(
            self.test_steps or self.inner_steps,
            observe=learner.answers,
            unroll=1,
            first_order=True,
        )
        answers: Answers = history.observed
        return answers

    def for_ways(self: Self, ways: int) -> Self:
        """As of `Episodic`; a head of zeros or prototypes has an output for each class."""
        if ways <= self.num_classes or self.head == "learned":
            return super().for_ways(ways)
        return dataclasses.replace(self, num_classes=ways, model=self.model.with_head(ways))

    def adapt_to(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any]:
        """The model's parameters after ``test_steps`` updates, and the state for queries."""
        network = self.network.without_regularisers()
        steps = self.test_steps or self.inner_steps
        leaves, state = self.adapted_leaves(network, params, model_state, support, steps)
        adapted, state = self.model_at(params, leaves, state, steps)
        if mode == "inductive":
            statistics = self.inductive_statistics
            state = network.inductive_state(adapted, state, support["input"], statistics)
        return {"params": adapted, "state": state}

    def before_adaptation(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any]:
        """The model's parameters before the first update, and the state for queries."""
        network = self.network.without_regularisers()
        state = self.state_of_model(model_state)
        leaves = Learner(self, network, params, state, {"support": support}).leaves()
        start, state = self.model_at(params, leaves, state, 0)
        if mode == "inductive":
            statistics = self.inductive_statistics
            state = network.inductive_state(start, state, support["input"], statistics)
        return {"params": start, "state": state}

    def state_of_model(self, model_state: ModelState) -> ModelState:
        """The collections of the model, without what the method keeps besides them."""
        return model_state

    def as_model(self, adapted: Mapping[str, Any], ways: int) -> tuple[Model, dict[str, Any]]:
        """The adapted model; outputs of a learned head for further classes are left out."""
        model, params = self.network.without_regularisers().model, adapted["params"]
        if ways < self.num_classes:
            leaves = parameters.flatten(params)
            for name in parameters.head_names(leaves, model):
                leaves[name] = leaves[name][..., :ways]
            model, params = model.with_head(ways), parameters.unflatten(leaves)
        return model, {"params": params, **adapted["state"]}

    def answer_adapted(
        self, adapted: Mapping[str, Any], inputs: Array, mode: str
    ) -> Float[Array, "queries outputs"]:
        """One pass of the adapted model."""
        network = self.network.without_regularisers()
        params, state = adapted["params"], adapted["state"]
        return network.apply(params, state, inputs, train=mode == "transductive")[0]

    def adapted_leaves(
        self,
        network: Network,
        params: Params,
        model_state: ModelState,
        support: Part,
        steps: int,
    ) -> tuple[Leaves, ModelState]:
        """The leaves of the model after ``steps`` updates on ``support``, and the model's state."""
        learner = Learner(self, network, params, model_state, {"support": support})
        return learner.adapt(steps, unroll=1, first_order=True), model_state

    def _unit_optimizer(self) -> optax.GradientTransformation:
        """The inner optimizer at a learning rate of one; `rates` scales its updates per leaf."""
        constructor, keywords = _inner_optimizer(self.inner_optimizer)
        eps_root = keywords_of(constructor).get("eps_root")
        if self.second_order and eps_root is not None and not eps_root.default:
            keywords.setdefault("eps_root", _EPS_ROOT)
        return constructor(learning_rate=1.0, **keywords)

    def _try_optimizer(self) -> None:
        """Raises ConfigError if the inner optimizer cannot be created, or cannot update."""
        tree = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}

        def once(tree: Any) -> Any:
            optimizer = self._unit_optimizer()
            return optimizer.update(tree, optimizer.init(tree), tree)

        try:
            # Traced only.
            jax.eval_shape(once, tree)
        except ConfigError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(
                f"{_OPTIMIZER}: {dict(self.inner_optimizer)} cannot be used; it should be an"
                " optimizer that needs only gradients, with valid arguments:"
                f" {reason[0]}"
            ) from error


def _inner_optimizer(section: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The constructor and the checked arguments of ``inner_optimizer``."""
    keywords = dict(section)
    name = keywords.pop("name", None)
    constructor = find_optimizer(name, f"{_OPTIMIZER}.name")
    check_keywords(
        constructor,
        keywords,
        where=_OPTIMIZER,
        given=("learning_rate",),
        annotations=annotations_of(name, constructor),
    )
    return constructor, keywords


@dataclasses.dataclass(frozen=True)
class Learner:
    """A copy of the model that adapts to one episode.

    Attributes:
        objective: the method.
        network: the model.
        params: the objective's parameters.
        model_state: the model's state before the episode.
        episode: ``support`` and ``query``.
    """

    objective: GradientBased
    network: Network
    params: Params
    model_state: ModelState
    episode: Episode

    def leaves(self) -> Leaves:
        """The model's parameters before adaptation."""
        objective, support = self.objective, self.episode["support"]
        leaves = parameters.flatten(self.params["model"])
        leaves = {name: objective.start(name, leaf) for name, leaf in leaves.items()}
        if objective.head == "learned":
            return leaves
        kernel, bias = parameters.head_names(leaves, objective.model)
        if objective.head == "zeros":
            # Of a model for other ways than the run's, see `for_ways`.
            outputs = objective.model.num_outputs or leaves[bias].shape[-1]
            shapes = [(*leaves[name].shape[:-1], outputs) for name in (kernel, bias)]
            head = tuple(map(jnp.zeros, shapes))
        else:
            onehot = jax.nn.one_hot(support["target"], objective.num_classes)
            features = self.features(leaves, support)
            centers = parameters.prototypes(features, onehot * support["mask"][:, None])
            head = parameters.prototype_head(centers)
        own = {n: x.astype(leaves[n].dtype) for n, x in zip((kernel, bias), head, strict=True)}
        return {**leaves, **own}

    def features(self, leaves: Leaves, part: Part) -> Array:
        """The head's inputs, under the statistics of ``part``."""
        network = self.network.without_regularisers().without_head()
        body = {name: leaf for name, leaf in leaves.items() if not self.objective.in_head(name)}
        params, state = self.objective.model_at(self.params, body, self.model_state, 0)
        return network.apply(params, state, part["input"], train=True)[0]

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
        """The leaves that are adapted, the others, and the optimizer of the inner loop."""
        objective = self.objective
        moving, rest = objective.partition(self.params, self.leaves())
        rates, per_step = objective.rates(self.params, moving)
        optimizer = optax.chain(
            objective._unit_optimizer(), scale_by_rates(rates, per_step=per_step)
        )
        return moving, rest, optimizer

    def support_loss(self, leaves: Leaves, step: Any, key: Any = None) -> tuple[Array, ModelState]:
        """The support set's mean loss after ``step`` updates, and the updated state."""
        support = self.episode["support"]
        params, state = self.objective.model_at(self.params, leaves, self.model_state, step)
        outputs, state = self.network.apply(params, state, support["input"], train=True, rng=key)
        losses = self.network.losses(outputs, support["target"], self.present())
        return masked_mean(losses, support["mask"]), state

    def query_loss(
        self, leaves: Leaves, state: ModelState, step: Any, key: Any = None
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The queries' mean loss after ``step`` updates, ``(state, metrics)``; transductive."""
        return self.part_loss(self.episode["query"], leaves, state, step, key)

    def part_loss(
        self, part: Part, leaves: Leaves, state: ModelState, step: Any, key: Any = None
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The mean loss of ``part`` under its own statistics, ``(state, metrics)``."""
        params, before = self.objective.model_at(self.params, leaves, state, step)
        outputs, after = self.network.apply(params, before, part["input"], train=True, rng=key)
        loss, metrics = self.network.loss(outputs, part, self.present())
        return loss, (self.objective.keep_state(state, after, step), metrics)

    def answers(self, leaves: Leaves, step: Any) -> dict[str, Array]:
        """The outputs for the queries after ``step`` updates, in both modes."""
        network, query = self.network, self.episode["query"]
        params, state = self.objective.model_at(self.params, leaves, self.model_state, step)
        transductive, _ = network.apply(params, state, query["input"], train=True)
        if not state:
            return {"transductive": transductive, "inductive": transductive}
        inputs, statistics = self.episode["support"]["input"], self.objective.inductive_statistics
        state = network.inductive_state(params, state, inputs, statistics)
        inductive, _ = network.apply(params, state, query["input"], train=False)
        return {"transductive": transductive, "inductive": inductive}

    def present(self) -> Array | None:
        """Which classes the support set has; None for regression."""
        return self.objective.present(self.episode)
