"""Classification by the nearest prototype: the mean of a class's support features."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.validation import OneOf, PositiveFloat
from vitjax.data.dataset import Dataset
from vitjax.meta import parameters
from vitjax.meta.episodic import Answers, Episode, Episodic
from vitjax.meta.network import STATISTICS, Network, Part, only, present_classes
from vitjax.meta.prototype_classifier import PrototypeClassifier, similarity
from vitjax.metrics import Metrics
from vitjax.models.protocol import Model
from vitjax.objectives.base import ModelState, Params, objectives

DISTANCES = ("euclidean", "cosine")

Self = TypeVar("Self", bound="PrototypeBased")


@dataclasses.dataclass(frozen=True)
class PrototypeBased(Episodic):
    """Compares each query's features with the prototypes of the episode's classes.

    Nothing is adapted, so an evaluation has step 0 only.

    Attributes:
        distance: ``"euclidean"``: logits are negative squared distances; ``"cosine"``: logits are
            cosine similarities.
        temperature: divides the logits.
        joint: under batch statistics, in training and in transductive evaluation, support and
            queries are normalised together; otherwise each by its own statistics.
        inductive_statistics: what normalises support and queries in inductive evaluation: the
            ``"running"`` averages of training, or the moments of the ``"support"`` set.
    """

    distance: Annotated[str, OneOf(DISTANCES)] = "euclidean"
    temperature: PositiveFloat = 1.0
    joint: bool = True
    inductive_statistics: Annotated[str, OneOf(STATISTICS)] = "running"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regression:
            raise ConfigError("objective: prototypes need classes, and this data is a regression")

    # Methods that a subclass may override.

    @property
    def network(self) -> Network:
        """The network that computes the features."""
        # All episodes share their kernels: only XLA's loops on a CPU need another convolution.
        model = self.model.for_inner_loops() if jax.default_backend() == "cpu" else self.model
        return Network(model, self.normalize, regression=False)

    def body(self, params: Params, model_state: ModelState) -> tuple[Any, ModelState]:
        """Parameters and state of `network`."""
        return params["model"], model_state

    def transform(
        self, features: Float[Array, "examples width"], model_state: ModelState
    ) -> Float[Array, "examples width"]:
        """The features that are compared."""
        del model_state
        return features

    # Evaluation.

    def answer_episode(self, params: Params, model_state: ModelState, episode: Episode) -> Answers:
        """The logits of the queries in both modes, each (1, queries, ways)."""
        network = self.network.without_regularisers()
        body, state = self.body(params, model_state)

        def logits(support: Array, query: Array) -> Array:
            support, query = (self.transform(f, model_state) for f in (support, query))
            return self.logits(support, query, episode)[None]

        support, query, _ = self.embed(network, body, state, episode)
        transductive = logits(support, query)
        if not state:
            return {"transductive": transductive, "inductive": transductive}
        inputs = episode["support"]["input"]
        state = network.inductive_state(body, state, inputs, self.inductive_statistics)
        features, _ = network.apply(body, state, _inputs(episode), train=False)
        return {"transductive": transductive, "inductive": logits(*_split(features, episode))}

    def for_ways(self: Self, ways: int) -> Self:
        """This objective for any number of classes: each has a prototype."""
        return dataclasses.replace(self, num_classes=ways)

    def adapt_to(
        self, params: Params, model_state: ModelState, support: Part, mode: str
    ) -> dict[str, Any]:
        """The prototypes; in the transductive mode they depend on the queries."""
        if mode == "transductive":
            return super().adapt_to(params, model_state, support, mode)
        network = self.network.without_regularisers()
        body, state = self.body(params, model_state)
        state = network.inductive_state(body, state, support["input"], self.inductive_statistics)
        features, _ = network.apply(body, state, support["input"], train=False)
        return {
            "params": body,
            "state": state,
            "model_state": dict(model_state),
            "centers": self.centers(self.transform(features, model_state), support),
        }

    def answer_adapted(
        self, adapted: Mapping[str, Any], inputs: Array, mode: str
    ) -> Float[Array, "queries outputs"]:
        """The logits by the distances to the prototypes."""
        if mode == "transductive":
            return super().answer_adapted(adapted, inputs, mode)
        network = self.network.without_regularisers()
        features, _ = network.apply(adapted["params"], adapted["state"], inputs, train=False)
        features = self.transform(features, adapted["model_state"])
        return similarity(features, adapted["centers"], self.distance) / self.temperature

    def as_model(self, adapted: Mapping[str, Any], ways: int) -> tuple[Model, dict[str, Any]]:
        """A network whose logits are by the distances to the prototypes."""
        own = self.network.without_regularisers().model
        variables = own.unstack({"params": adapted["params"], **adapted["state"]})
        transform = functools.partial(self.transform, model_state=adapted["model_state"])
        model = PrototypeClassifier(
            own.unscanned(), ways, self.distance, self.temperature, transform
        )
        inside = {name: {"network": tree} for name, tree in variables.items()}
        return model, {**inside, "prototypes": {"centers": adapted["centers"][:ways]}}

    def embed(
        self, network: Network, body: Any, state: ModelState, episode: Episode, rng: Any = None
    ) -> tuple[Array, Array, ModelState]:
        """The features of support and queries under batch statistics, and the updated state."""
        if self.joint:
            features, state = network.apply(body, state, _inputs(episode), train=True, rng=rng)
            return *_split(features, episode), state
        keys = [None, None] if rng is None else list(jax.random.split(rng))
        outputs = []
        for part, key in zip(("support", "query"), keys, strict=True):
            inputs = episode[part]["input"]
            output, state = network.apply(body, state, inputs, train=True, rng=key)
            outputs.append(output)
        return outputs[0], outputs[1], state

    def logits(
        self,
        support: Float[Array, "shots width"],
        query: Float[Array, "queries width"],
        episode: Episode,
    ) -> Float[Array, "queries ways"]:
        """The logits of queries from their features; very low for classes the episode lacks."""
        part = episode["support"]
        centers = self.centers(support, part)
        outputs = similarity(query, centers, self.distance) / self.temperature
        return only(outputs, present_classes(part, self.num_classes))

    def centers(
        self, features: Float[Array, "shots width"], part: Part
    ) -> Float[Array, "ways width"]:
        """The prototype of each class of a support set with these features."""
        onehot = jax.nn.one_hot(part["target"], self.num_classes, dtype=features.dtype)
        return parameters.prototypes(features, onehot * part["mask"][:, None])


@objectives.register("protonet")
@dataclasses.dataclass(frozen=True)
class ProtoNet(PrototypeBased):
    """Prototypical networks: Snell et al. 2017, arXiv:1703.05175, Eq. 1 and 2.

    The loss is the queries' cross-entropy under a softmax over negative squared distances to the
    prototypes. The model has no head; if the config sets ``model.num_classes``, the head's outputs
    are the features. Training may have more ways than evaluation (``train_ways``).

    The defaults are those of jakesnell/prototypical-networks: support and queries pass through the
    network together in training and under the running statistics in evaluation. The paper's numbers
    therefore correspond to the inductive ones.
    """

    @classmethod
    def model_outputs(cls, data: Dataset) -> int | None:
        """None: no head."""
        del data
        return None

    def episode_loss(
        self, params: Params, model_state: ModelState, episode: Episode, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        """The queries' mean cross-entropy."""
        network = self.network
        support, query, state = self.embed(network, params["model"], model_state, episode, rng)
        outputs = self.logits(support, query, episode)
        loss, metrics = network.loss(outputs, episode["query"], self.present(episode))
        return loss, (state, metrics)


def _inputs(episode: Episode) -> Array:
    """Support inputs, then query inputs."""
    return jnp.concatenate([episode["support"]["input"], episode["query"]["input"]])


def _split(features: Array, episode: Episode) -> tuple[Array, Array]:
    """The features of support and of queries, from those of `_inputs`."""
    shots = len(episode["support"]["target"])
    return features[:shots], features[shots:]
