"""Classification by the nearest prototype: the mean of a class's support features."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.validation import check_choice
from vitjax.meta import parameters
from vitjax.meta.episodic import MODES, Answering, Answers, Measures, Task
from vitjax.meta.network import STATISTICS, Network, only, present_classes
from vitjax.metrics.mean import Mean, Metrics
from vitjax.objectives.base import ModelState, Params, objectives

DISTANCES = ("euclidean", "cosine")


@dataclasses.dataclass(frozen=True)
class PrototypeBased(Answering):
    """Compares each query's features with the prototypes of the episode's classes.

    Nothing is adapted, so evaluations measure once, not before and after.

    Attributes:
        distance: ``"euclidean"``, whose square is what logits fall with, or ``"cosine"``, whose
            similarity they rise with.
        temperature: logits are divided by it.
        joint: under batch statistics, in training and in transductive evaluation, support and
            queries are normalised together; else each by its own.
        inductive_statistics: what batch normalisation takes in inductive evaluation, for support
            and queries: the ``"running"`` moments of training, or those of the ``"support"`` set.
    """

    distance: str = "euclidean"
    temperature: float = 1.0
    joint: bool = True
    inductive_statistics: str = "running"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective.distance", self.distance, DISTANCES)
        check_choice("objective.inductive_statistics", self.inductive_statistics, STATISTICS)
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"objective.temperature is {self.temperature}; it is above 0")
        if self.task == "regression":
            raise ConfigError("objective: a regression has no classes to take prototypes of")

    # What a method may change.

    @property
    def network(self) -> Network:
        """What gives the features."""
        # All tasks have the same kernels, so only XLA's loops on a CPU ask for another convolution.
        model = self.model.for_inner_loops() if jax.default_backend() == "cpu" else self.model
        return Network(model, self.normalize, regression=False)

    def body(self, params: Params, model_state: ModelState) -> tuple[Any, ModelState]:
        """Parameters and state of `network`."""
        return params["model"], model_state

    def transform(
        self, features: Float[Array, "examples width"], model_state: ModelState
    ) -> Float[Array, "examples width"]:
        """The features as they are compared."""
        del model_state
        return features

    # Evaluation.

    def answer_task(self, params: Params, model_state: ModelState, task: Task) -> Answers:
        """The logits of the queries in both modes, each (1, queries, ways)."""
        network = self.network.without_regularisers()
        body, state = self.body(params, model_state)
        answers: Answers = {}
        for mode in MODES:
            if mode == "inductive":
                if not state:
                    answers[mode] = answers["transductive"]
                    continue
                inputs, how = task["support"]["input"], self.inductive_statistics
                state = network.inductive_state(body, state, inputs, how)
                features, _ = network.apply(body, state, _inputs(task), train=False)
                support, query = _apart(features, task)
            else:
                support, query, _ = self.embed(network, body, state, task)
            support, query = (self.transform(f, model_state) for f in (support, query))
            answers[mode] = self.logits(support, query, task)[None]
        return answers

    def measure_task(self, params: Params, model_state: ModelState, task: Task) -> Measures:
        """Loss and accuracy of the queries in both modes, each (1,)."""
        network = self.network
        present = present_classes(task["support"], self.num_classes)

        def worth(outputs: Array) -> dict[str, Array]:
            means = network.worth(outputs, task["query"], present)
            return {name: mean.value() for name, mean in means.items()}

        answers = self.answer_task(params, model_state, task)
        return {mode: jax.vmap(worth)(outputs) for mode, outputs in answers.items()}

    # How.

    def embed(
        self, network: Network, body: Any, state: ModelState, task: Task, rng: Any = None
    ) -> tuple[Array, Array, ModelState]:
        """The features of support and queries under batch statistics, and the state after."""
        if self.joint:
            features, state = network.apply(body, state, _inputs(task), train=True, rng=rng)
            return *_apart(features, task), state
        keys = [None, None] if rng is None else list(jax.random.split(rng))
        outputs = []
        for part, key in zip(("support", "query"), keys, strict=True):
            output, state = network.apply(body, state, task[part]["input"], train=True, rng=key)
            outputs.append(output)
        return outputs[0], outputs[1], state

    def logits(
        self,
        support: Float[Array, "shots width"],
        query: Float[Array, "queries width"],
        task: Task,
    ) -> Float[Array, "queries ways"]:
        """Of each query for each class; those of classes that the episode lacks are very low."""
        part = task["support"]
        onehot = jax.nn.one_hot(part["target"], self.num_classes, dtype=support.dtype)
        centers = parameters.prototypes(support, onehot * part["mask"][:, None])
        outputs = similarity(query, centers, self.distance) / self.temperature
        return only(outputs, present_classes(part, self.num_classes))


@objectives.register("protonet")
@dataclasses.dataclass(frozen=True)
class ProtoNet(PrototypeBased):
    """Prototypical networks: Snell et al. 2017, arXiv:1703.05175, Eq. 1 and 2.

    The loss is the queries' cross-entropy under a softmax over negative squared distances to the
    prototypes. The model has no head, unless the config's ``model.num_classes`` gives it one, whose
    outputs are the features then. Training may have more ways than evaluation (``train_ways``).

    The defaults are those of jakesnell/prototypical-networks: support and queries go through the
    network together in training, and under the running statistics in evaluation, so the paper's
    figures are to be compared with the inductive ones.
    """

    @classmethod
    def model_outputs(cls, data: Any) -> int | None:
        """None: no head."""
        del data
        return None

    def task_loss(
        self, params: Params, model_state: ModelState, task: Task, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The queries' mean cross-entropy."""
        network = self.network
        support, features, state = self.embed(network, params["model"], model_state, task, rng)
        outputs = self.logits(support, features, task)
        present = present_classes(task["support"], self.num_classes)
        metrics = network.worth(outputs, task["query"], present)
        loss = metrics["loss"].value()
        # Tasks weigh the same, however many of their queries count.
        metrics["loss"] = Mean(loss, jnp.ones_like(loss))
        return loss, (state, metrics)


def similarity(
    features: Float[Array, "examples width"], centers: Float[Array, "ways width"], distance: str
) -> Float[Array, "examples ways"]:
    """The negative squared Euclidean distance, or the cosine of the angle; 0 for a null vector.

    Args:
        features: compared with all centers.
        centers: such as prototypes.
        distance: one of `DISTANCES`.
    """
    # Differences of large numbers: what accelerators save on products would be lost on them.
    if distance == "cosine":
        return jnp.matmul(unit(features), unit(centers).T, precision="highest")
    kernel, bias = parameters.prototype_head(centers)
    products = jnp.matmul(features, kernel, precision="highest")
    return products + bias - jnp.sum(jnp.square(features), axis=-1, keepdims=True)


def unit(vectors: Float[Array, "examples width"]) -> Float[Array, "examples width"]:
    """``vectors`` of length one; a null vector stays one."""
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def _inputs(task: Task) -> Array:
    return jnp.concatenate([task["support"]["input"], task["query"]["input"]])


def _apart(features: Array, task: Task) -> tuple[Array, Array]:
    shots = len(task["support"]["target"])
    return features[:shots], features[shots:]
