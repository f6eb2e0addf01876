"""Baselines for few-shot methods: ordinary training on all classes, then simple adaptation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import layer
from vitjax.core.validation import OneOf, Repetitions
from vitjax.data.dataset import Dataset
from vitjax.meta import parameters
from vitjax.meta.episodic import MODES, Answers, Episode, Episodic
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.meta.network import DECLARED, STATISTICS, Network, Part
from vitjax.meta.prototype_classifier import unit
from vitjax.meta.prototypical import PrototypeBased
from vitjax.metrics import Mean, Metrics
from vitjax.objectives.base import Batch, ModelState, Objective, Params, objectives

_CENTER = "feature_mean"
# Decay of the moving average of the features, per training step.
_DECAY = 0.99

Self = TypeVar("Self", bound="Supervised")
FineTuningSelf = TypeVar("FineTuningSelf", bound="FineTuning")


@dataclasses.dataclass(frozen=True)
class Supervised(Episodic):
    """Ordinary supervised training: one forward pass over all examples of a batch.

    Classification: the head has an output per training class (where the data rotates classes, each
    rotation is a class of its own), and the loss is the cross-entropy of support and query images.
    Regression: the loss is the squared error over the points of all episodes, so the model learns
    the mean of the functions.

    Attributes:
        num_train_classes: number of training classes.
    """

    num_train_classes: int = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regression:
            return
        given = self.model.num_outputs
        if given == 0:
            model = self.model.with_head(self.num_train_classes)
            object.__setattr__(self, "model", model)
        elif given < self.num_train_classes:
            raise ConfigError(
                f"config.model.num_classes is {given}; the data has {self.num_train_classes}"
                " training classes, for which this objective adds a head if the key is not set"
            )

    @classmethod
    def model_outputs(cls, data: Dataset) -> int | None:
        """None for classification, where the objective adds the head."""
        if data.target == "class":
            return None
        return super().model_outputs(data)

    def forward(
        self,
        params: Params,
        model_state: ModelState,
        inputs: Num[Array, "examples *shape"],
        weights: Float[Array, "examples"],
        rng: PRNGKeyArray,
    ) -> tuple[Float[Array, "examples outputs"], ModelState]:
        """The outputs in training, and the updated state."""
        del weights
        network = Network(self.model, self.normalize, self.regression)
        return network.apply(params["model"], model_state, inputs, train=True, rng=rng)

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """The mean loss over all examples of all episodes."""
        inputs, targets, weights = self.examples(batch)
        outputs, model_state = self.forward(params, model_state, inputs, weights, rng)
        network = self.network
        losses = network.losses(outputs, targets)
        metrics: Metrics = {"loss": Mean.of(losses, weights, **DECLARED["loss"])}
        if not network.regression:
            correct = network.correct(outputs, targets)
            metrics["accuracy"] = Mean.of(correct, weights, **DECLARED["accuracy"])
        return self.average(metrics["loss"]), (model_state, metrics)

    def gradients(
        self, params: Params, model_state: ModelState, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Params, tuple[ModelState, Metrics]]:
        """The gradient of `loss`."""
        return Objective.gradients(self, params, model_state, batch, rng)

    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[ModelState, Metrics]]:
        """`loss` of a batch of one episode."""
        batch = jax.tree.map(lambda x: x[None], dict(episode))
        return self.loss(params, model_state, {**batch, "mask": jnp.ones(1, bool)}, rng)

    def examples(
        self, batch: Batch
    ) -> tuple[Num[Array, "examples *shape"], Num[Array, "examples ..."], Float[Array, "examples"]]:
        """Inputs, targets (class indices of the data, or numbers) and weights of all episodes."""
        target = "target" if self.regression else "class"
        keys = ("input", target, "mask")

        def row(key: str) -> Array:
            both = jnp.concatenate([batch["support"][key], batch["query"][key]], axis=1)
            if key == "mask":
                both = both & batch["mask"][:, None]
            return both.reshape(-1, *both.shape[2:])

        inputs, targets, mask = (row(key) for key in keys)
        return inputs, targets, mask.astype(jnp.float32)

    def over_axis(self: Self, axis_name: str) -> Self:
        """Under ``pmap`` batch statistics are those of all episodes of all devices."""
        return dataclasses.replace(Objective.over_axis(self, axis_name), devices=1)


@objectives.register("nearest_centroid")
@dataclasses.dataclass(frozen=True)
class NearestCentroid(Supervised, PrototypeBased):
    """Ordinary classification, then the nearest class mean: SimpleShot, arXiv:1911.04623, Sec. 2.

    Wang et al. 2019. The features are the inputs of the head.

    Attributes:
        transform_features: ``"none"`` (UN in the paper), ``"l2"`` for features of length one (L2N),
            or ``"center_l2"`` to subtract the mean feature of the training images first (CL2N). The
            mean is a moving average over about the last hundred steps, in the model state.
    """

    joint: bool = False
    transform_features: Literal["none", "l2", "center_l2"] = "none"

    @property
    def network(self) -> Network:
        """The model without its head."""
        return super().network.without_head()

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """As for any few-shot objective, with the mean feature for ``"center_l2"``."""
        variables = super().wrap(rng, variables, batch)
        if self.transform_features != "center_l2":
            return variables
        kernel, _ = self._head(variables["params"])
        center = {"total": jnp.zeros(len(kernel), kernel.dtype), "weight": jnp.zeros(())}
        return {**variables, _CENTER: center}

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables."""
        return super().unwrap({k: tree for k, tree in variables.items() if k != _CENTER})

    def forward(
        self,
        params: Params,
        model_state: ModelState,
        inputs: Num[Array, "examples *shape"],
        weights: Float[Array, "examples"],
        rng: PRNGKeyArray,
    ) -> tuple[Float[Array, "examples outputs"], ModelState]:
        """The outputs in training, and the updated state."""
        if self.transform_features != "center_l2":
            return super().forward(params, model_state, inputs, weights, rng)
        body, state = self.body(params, model_state)
        network = Network(self.model, self.normalize, regression=False).without_head()
        features, state = network.apply(body, state, inputs, train=True, rng=rng)
        (kernel, bias), old = self._head(params), model_state[_CENTER]
        mean = weights @ jax.lax.stop_gradient(features) / jnp.maximum(jnp.sum(weights), 1)
        center = {
            "total": (_DECAY * old["total"] + mean).astype(old["total"].dtype),
            "weight": _DECAY * old["weight"] + 1,
        }
        return features @ kernel + bias, {**state, _CENTER: center}

    def body(self, params: Params, model_state: ModelState) -> tuple[Any, ModelState]:
        """All parameters except the head's."""
        _, body = self.model.split_head(params["model"])
        return body, {name: tree for name, tree in model_state.items() if name != _CENTER}

    def _head(self, params: Params) -> tuple[Array, Array]:
        """Kernel and bias of the last layer."""
        leaves = parameters.flatten(params["model"])
        kernel, bias = parameters.head_names(leaves, self.model)
        return leaves[kernel], leaves[bias]

    def transform(
        self, features: Float[Array, "examples width"], model_state: ModelState
    ) -> Float[Array, "examples width"]:
        """``features`` transformed according to ``transform_features``."""
        if self.transform_features == "none":
            return features
        if self.transform_features == "center_l2":
            center = model_state[_CENTER]
            features = features - center["total"] / jnp.maximum(center["weight"], 1)
        return unit(features)


@objectives.register("fine_tuning")
@dataclasses.dataclass(frozen=True)
class FineTuning(Supervised, GradientBased):
    """Ordinary training, then gradient descent on an episode's support set.

    Classification: a new head, initialised with zeros, is trained on the features (the "Baseline"
    of Chen et al. 2019, arXiv:1904.04232, Sec. 3.2). Regression: the complete model is trained (the
    baseline pretrained on all tasks of Finn et al. 2017, arXiv:1703.03400, Sec. 5.1).

    If only the head is adapted, images pass through the rest of the model once; in inductive
    evaluation the same statistics then normalise support images and queries.

    Attributes:
        adapted: as for any gradient-based method; if empty, the head for classification and the
            complete model for regression.
    """

    test_steps: Repetitions = 100
    adapted: Sequence[str] = ()
    inductive_statistics: Annotated[str, OneOf(STATISTICS)] = "running"
    # Training has no inner loop.
    inner_steps: int = dataclasses.field(default=1, init=False)
    head: Literal["learned"] = dataclasses.field(default="learned", init=False)
    remat: bool = dataclasses.field(default=False, init=False)
    unroll: int | bool = dataclasses.field(default=1, init=False)
    first_order: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        if not self.adapted:
            default = (r"",) if self.regression else (self.model.head_pattern,)
            object.__setattr__(self, "adapted", default)
        super().__post_init__()

    @property
    def network(self) -> Network:
        """The model with a head for the classes of an episode."""
        model = self.model.for_inner_loops()
        if not self.regression:
            model = model.with_head(self.num_classes)
        return Network(model, self.normalize, self.regression)

    def start(self, name: str, leaf: Any) -> Any:
        """Zeros for the head in classification, the leaf itself otherwise."""
        if self.regression or not self.in_head(name):
            return leaf
        return jnp.zeros((*leaf.shape[:-1], self.num_classes), leaf.dtype)

    def answer_episode(self, params: Params, model_state: ModelState, episode: Episode) -> Answers:
        """Both modes, before the first of ``test_steps`` updates and after each."""
        parts = self._head_alone(params)
        if parts is None:
            return super().answer_episode(params, model_state, episode)
        answers = {}
        for mode in MODES if model_state else MODES[:1]:
            learner = self._head_learner(*parts, model_state, episode, mode)
            _, history = learner.adapt(self.test_steps, observe=learner.answers)
            answers[mode] = history.observed[mode]
        return {mode: answers.get(mode, answers[MODES[0]]) for mode in MODES}

    def for_ways(self: FineTuningSelf, ways: int) -> FineTuningSelf:
        """This objective for any number of classes: the head is a new one."""
        return dataclasses.replace(self, num_classes=ways)

    def adapt_to(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any]:
        """As of any gradient-based method; a head that alone adapts is trained on features."""
        parts = self._head_alone(params)
        if parts is None:
            return super().adapt_to(params, model_state, support, mode)
        head, body = parts
        learner = self._head_learner(head, body, model_state, {"support": support}, mode)
        leaves = {**parameters.flatten(body), **learner.adapt(self.test_steps)}
        state = self._state(body, model_state, support, mode)
        return {"params": parameters.unflatten(leaves), "state": state}

    def _head_alone(self, params: Params) -> tuple[Any, Any] | None:
        """The head and the rest of the model, if the head is one layer and alone adapts."""
        leaves = parameters.flatten(params["model"])
        moving, _ = parameters.partition(leaves, self.adapted, self.fixed)
        head, body = self.model.split_head(params["model"])
        layers = set(map(layer, parameters.flatten(head)))
        single = len(head) == 1 and layers == set(head)
        if not moving or not single or not set(moving) <= set(parameters.flatten(head)):
            return None
        return head, body

    def _head_learner(
        self, head: Any, body: Any, state: ModelState, episode: Episode, mode: str
    ) -> Learner:
        """A head that adapts to the features of ``episode``."""
        features = self._features(body, state, episode, mode)
        model = self.model.only_head(head).with_head(self.num_classes)
        dtype = features["support"]["input"].dtype
        network = Network(model.replaced(dtype=dtype), lambda inputs: inputs, self.regression)
        return Learner(self, network, {"model": head}, {}, features)

    def _features(self, body: Any, state: ModelState, episode: Episode, mode: str) -> Episode:
        """``episode`` with the head's inputs in place of the model's."""
        network = self.network.without_regularisers().without_head()
        state = self._state(body, state, episode["support"], mode)
        return {
            name: {
                **part,
                "input": network.apply(body, state, part["input"], train=mode == "transductive")[0],
            }
            for name, part in episode.items()
        }

    def _state(self, body: Any, state: ModelState, support: Part, mode: str) -> ModelState:
        """The model's state that normalises queries in ``mode``."""
        if mode == "transductive":
            return state
        network = self.network.without_regularisers().without_head()
        return network.inductive_state(body, state, support["input"], self.inductive_statistics)
