"""What all few-shot objectives share: a batch holds episodes."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt
from vitjax.data.dataset import Target
from vitjax.meta import mapping
from vitjax.meta.network import DECLARED, Network, Part, only, present_classes
from vitjax.metrics import Mean, Metrics
from vitjax.models.protocol import Model
from vitjax.objectives.base import Batch, ModelState, Objective, Params

MODES = ("transductive", "inductive")

Self = TypeVar("Self", bound="Episodic")
# {"support": ..., "query": ...} of one episode.
Episode = Mapping[str, Any]
# {mode: {"loss": (steps + 1,), "accuracy": (steps + 1,)}} of one episode.
Measures = dict[str, dict[str, Array]]
# {mode: (steps + 1, queries, outputs)} of one episode.
Answers = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Episodic(Objective):
    """An objective over N-way K-shot episodes; a subclass defines the loss of one episode.

    A batch holds ``support`` and ``query``, each with ``input``, ``target``, ``class`` and ``mask``
    of leading axes (episodes, examples), and ``mask`` (episodes,). The parameters are
    ``{"model": the model's, ...}``; a method adds entries for what else it learns.

    Attributes:
        num_classes: outputs of the model: the largest number of ways of an episode.
        normalize: maps a batch's inputs to the model's inputs.
        target: ``"class"`` for classification, ``"number"`` for regression.
        episodes_at_once: the maximum number of episodes that a device computes in parallel; None
            chooses the fastest that fits into memory, see `vitjax.meta.mapping`.
        devices: over how many devices the compiler spreads a batch.
    """

    task: ClassVar[str] = "few_shot"
    targets: ClassVar[tuple[Target, ...] | None] = ("class", "number")
    episodic: ClassVar[bool] = True

    def __init_subclass__(cls, **keywords: Any):
        """Lets a class that answers episodes its own way classify later queries in the same way.

        It may inherit an `adapt_to` that answers in the way of its base class. Unless it defines
        its own, it has the general one of this class, which uses its `answer_episode`.
        """
        super().__init_subclass__(**keywords)
        if "answer_episode" in vars(cls) and "adapt_to" not in vars(cls):
            for name in ("adapt_to", "before_adaptation", "answer_adapted", "as_model"):
                setattr(cls, name, vars(Episodic)[name])

    num_classes: int
    normalize: Callable[[Array], Array]
    target: Literal["class", "number"] = "class"
    episodes_at_once: PositiveInt | None = None
    devices: int = dataclasses.field(default=1, kw_only=True)

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers."""
        return self.target == "number"

    @property
    def network(self) -> Network:
        """The model as episodes use it."""
        return Network(self.model.for_inner_loops(), self.normalize, self.regression)

    @abc.abstractmethod
    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The loss of one episode, and ``(new model_state, metrics)``."""

    @abc.abstractmethod
    def answer_episode(self, params: Params, model_state: ModelState, episode: Episode) -> Answers:
        """The outputs for one episode's queries before adaptation and after each step.

        In both `MODES`: ``transductive`` normalises queries by the statistics of all queries of
        the episode, ``inductive`` independently of the other queries. A method that does not adapt
        returns its outputs as those of step 0.
        """

    def meta_parameters(self, model_params: Params) -> dict[str, Any]:
        """What is learned besides the model's parameters: further entries of ``params``."""
        del model_params
        return {}

    def check_model(self, model_params: Params) -> None:
        """Raises ConfigError if the objective cannot use a model with these parameters."""
        del model_params

    def inputs(self, batch: Batch) -> Any:
        """The model's inputs for the support set of the first episode."""
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
        """The model's own variables, without what is learned besides them."""
        return {**variables, "params": variables["params"]["model"]}

    # Training.

    def episode_gradients(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `episode_loss`; override it for a method with another gradient."""
        return jax.grad(self.episode_loss, has_aux=True)(params, model_state, episode, rng)

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean of `episode_loss` over the episodes of the batch."""
        total, weight, aux = self._sum(self.episode_loss, params, model_state, batch, rng)
        return total / weight, aux

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The mean of `episode_gradients` over the episodes, summed as they are computed."""
        total, weight, aux = self._sum(self.episode_gradients, params, model_state, batch, rng)
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
        """Sums ``function`` over the episodes: (sum, mean weight of a device, (state, metrics))."""
        weights = batch["mask"].astype(jnp.float32)
        episodes = {
            "support": batch["support"],
            "query": batch["query"],
            # Key data, since typed keys cannot be split into pieces.
            "rng": jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(rng, i)))(
                jnp.arange(len(weights))
            ),
        }

        def one(episode: Episode) -> Any:
            key = jax.random.wrap_key_data(episode["rng"])
            return function(params, model_state, episode, key)

        total, (states, metrics) = mapping.sum_over_episodes(
            one, episodes, weights, self._pieces(one, episodes)
        )
        weight = jnp.sum(weights)
        # Each episode counts alike, whichever device computes it.
        states, counted = self.sum_over_devices((states, weight))

        def mean(sum_: Array, old: Array) -> Array:
            new = sum_ / jnp.maximum(counted, 1)
            return jnp.where(counted > 0, new, old).astype(old.dtype)

        model_state = jax.tree.map(mean, states, dict(model_state))
        weight = self.mean_over_devices(weight)
        return total, jnp.maximum(weight, 1e-9), (model_state, metrics)

    # Evaluation.

    def measure_episode(
        self, params: Params, model_state: ModelState, episode: Episode
    ) -> Measures:
        """Loss and accuracy of `answer_episode`, in both `MODES`."""
        network, query = self.network, episode["query"]
        present = self.present(episode)

        def measured(outputs: Array) -> dict[str, Array]:
            means = network.metrics(outputs, query, present)
            return {name: mean.value() for name, mean in means.items()}

        answers = self.answer_episode(params, model_state, episode)
        return {mode: jax.vmap(measured)(outputs) for mode, outputs in answers.items()}

    def answer(self, variables: Mapping[str, Any], batch: Batch) -> Answers:
        """`answer_episode` of each episode: {mode: (episodes, steps + 1, queries, outputs)}."""
        return self._map(self.answer_episode, variables, batch)

    def measure(self, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """`measure_episode` of each episode: {mode: {"loss": (episodes, steps + 1), ...}}."""
        return self._map(self.measure_episode, variables, batch)

    # Classifiers: adapted once, for queries that come later.

    def for_ways(self: Self, ways: int) -> Self:
        """This objective for episodes with the given number of classes.

        Raises:
            ConfigError: the head is learned, and has fewer outputs.
        """
        if ways > self.num_classes:
            raise ConfigError(
                f"there are {ways} classes, and the learned head of {type(self).__name__} was"
                f" trained for at most {self.num_classes}: its weights for further classes do not"
                f" exist. Give at most {self.num_classes} classes, or use a run of a method that"
                " takes any number: protonet, nearest_centroid, fine_tuning, or one with"
                " config.objective.head = 'prototypes' or 'zeros'"
            )
        return self

    def adapt_to(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any]:
        """What `answer_adapted` needs to classify queries that are not known yet.

        A method that adapts overrides both, so that it adapts once for any number of queries; this
        default adapts again for each call of `answer_adapted`.

        Args:
            params: the objective's parameters.
            model_state: the model's other collections.
            support: ``input``, ``target`` and ``mask`` of the support set; any number per class.
            mode: one of `MODES`.
        """
        del mode
        return {"params": params, "state": dict(model_state), "support": dict(support)}

    def answer_adapted(
        self, adapted: Mapping[str, Any], inputs: Num[Array, "queries *shape"], mode: str
    ) -> Float[Array, "queries outputs"]:
        """The outputs for queries after the last step, as `answer_episode` gives them.

        Args:
            adapted: the result of `adapt_to` in the same mode.
            inputs: the queries; in the transductive mode, all of them.
            mode: one of `MODES`.
        """
        query = {
            "input": inputs,
            "target": jnp.zeros(len(inputs), jnp.int32),
            "mask": jnp.ones(len(inputs), bool),
        }
        episode = {"support": adapted["support"], "query": query}
        return self.answer_episode(adapted["params"], adapted["state"], episode)[mode][-1]

    def before_adaptation(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any] | None:
        """What `answer_adapted` needs to classify queries before the first update.

        The arguments are those of `adapt_to`. None for a method that does not adapt.
        """
        del params, model_state, support, mode
        return None

    def as_model(self, adapted: Mapping[str, Any], ways: int) -> tuple[Model, dict[str, Any]]:
        """A model and its variables, whose outputs are those of `answer_adapted`, inductive.

        It can be opened and differentiated as any other: inputs are normalised before.

        Args:
            adapted: the result of `adapt_to` or `before_adaptation` in the inductive mode.
            ways: the number of classes of the support set.

        Raises:
            ConfigError: the method answers in a way of its own.
        """
        del adapted, ways
        raise ConfigError(
            f"{type(self).__name__} defines no `as_model`: its answers are not the outputs of a"
            " network for one image"
        )

    def query_probabilities(
        self, variables: Mapping[str, Any], batch: Batch
    ) -> dict[str, Float[Array, "episodes queries ways"]]:
        """The probability of each class for each query after the last step, in both `MODES`.

        NaN for the classes that an episode's support set lacks; queries of these do not count.
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

    def evaluate(self, variables: Mapping[str, Any], batch: Batch) -> Metrics:
        """Loss and accuracy after the last step: transductive, and ``_inductive``.

        Also ``_before`` the first step, transductive: chance level for a fair classification, and
        therefore without a direction. Methods that do not adapt have no ``_before``.
        """
        measures, mask = self.measure(variables, batch), batch["mask"]
        metrics = {}
        for name, values in measures["transductive"].items():
            declared = DECLARED[name]
            inductive = measures["inductive"][name][:, -1]
            metrics[name] = Mean.of(values[:, -1], mask, **declared)
            metrics[f"{name}_inductive"] = Mean.of(inductive, mask, **declared)
            if values.shape[1] > 1:
                undirected = {**declared, "higher_is_better": None}
                metrics[f"{name}_before"] = Mean.of(values[:, 0], mask, **undirected)
        return metrics

    def present(self, episode: Episode) -> Array | None:
        """Which classes the support set of ``episode`` has; None for regression."""
        if self.regression:
            return None
        return present_classes(episode["support"], self.num_classes)

    def over_axis(self: Self, axis_name: str) -> Self:
        """This objective under ``pmap``. Batch statistics remain those of each episode."""
        return dataclasses.replace(self, axis_name=axis_name, devices=1)

    def _map(self, function: Callable[..., Any], variables: Mapping[str, Any], batch: Batch) -> Any:
        """``function(params, model_state, episode)`` of each episode, stacked."""
        state = dict(variables)
        params = state.pop("params")
        episodes = {"support": batch["support"], "query": batch["query"]}

        def one(episode: Episode) -> Any:
            return function(params, state, episode)

        return mapping.map_over_episodes(one, episodes, self._pieces(one, episodes))

    def _pieces(self, function: Callable[[Any], Any], episodes: Any) -> int:
        return mapping.pieces(
            function, episodes, devices=self.devices, at_once=self.episodes_at_once
        )
