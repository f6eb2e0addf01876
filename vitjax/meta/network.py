"""A model applied to the parts of an episode, under different batch statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Num

from vitjax.metrics import Mean, Metrics
from vitjax.models.protocol import Model

Part = Mapping[str, Array]
# What batch normalisation may use in inductive evaluation, see `Network.inductive_state`.
STATISTICS = ("support", "running")


# Direction and unit of each metric.
DECLARED: dict[str, dict[str, Any]] = {
    "loss": {"higher_is_better": False},
    "accuracy": {"higher_is_better": True, "unit": "fraction"},
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, applied to one part (support or query) of one episode at a time.

    Attributes:
        model: called ``model(inputs, train=...)``.
        normalize: maps a part's inputs to the model's inputs.
        regression: whether targets are numbers; class indices otherwise.
    """

    model: Model
    normalize: Callable[[Array], Array]
    regression: bool

    def apply(
        self,
        params: Any,
        state: Mapping[str, Any],
        inputs: Num[Array, "examples *shape"],
        *,
        train: bool,
        rng: Array | None = None,
    ) -> tuple[Float[Array, "examples outputs"], dict[str, Any]]:
        """The outputs, and the updated state.

        Args:
            params: the model's parameters.
            state: the model's other collections, such as ``{"batch_stats": ...}``.
            inputs: one part of one episode.
            train: normalise by the statistics of ``inputs``; by those in ``state`` otherwise.
            rng: for dropout; None for no dropout.
        """
        variables = {"params": params, **state}
        inputs = self.normalize(inputs)
        if not train:
            outputs: Any = self.model.apply(variables, inputs, train=False)
            return outputs, dict(state)
        rngs = None if rng is None else {"dropout": rng}
        both: Any = self.model.apply(variables, inputs, train=True, mutable=list(state), rngs=rngs)
        return both[0], dict(both[1])

    def moments(
        self, params: Any, state: Mapping[str, Any], inputs: Num[Array, "examples *shape"]
    ) -> dict[str, Any]:
        """``state`` with the statistics of ``inputs`` in place of the running averages.

        A running average moves from r to m r + (1 - m) b, where b is the batch's statistic and m a
        momentum that each layer names differently. Two passes, from r = 0 and from r = 1, determine
        m and therefore b.
        """
        if not state:
            return {}
        low, high = (
            self.apply(
                params,
                jax.tree.map(lambda x, v=value: jnp.full_like(x, v), state),
                inputs,
                train=True,
            )[1]
            for value in (0, 1)
        )

        def exact(low: Array, high: Array) -> Array:
            # m is the same for all channels; the smallest value loses the fewest digits.
            at = jnp.argmin(jnp.abs(low.ravel()))
            momentum = high.ravel()[at] - low.ravel()[at]
            return low / (1 - momentum)

        return jax.tree.map(exact, low, high)

    def inductive_state(
        self,
        params: Any,
        state: Mapping[str, Any],
        support_inputs: Num[Array, "examples *shape"],
        statistics: str,
    ) -> dict[str, Any]:
        """The state that normalises queries independently of each other.

        Args:
            params: the model's parameters.
            state: the model's other collections.
            support_inputs: of the queries' episode.
            statistics: one of `STATISTICS`: ``"support"`` for the moments of ``support_inputs``,
                ``"running"`` for those in ``state``.
        """
        if statistics == "support":
            return self.moments(params, state, support_inputs)
        return dict(state)

    def without_regularisers(self) -> Network:
        """The same network without dropout, for deterministic outputs under batch statistics."""
        return dataclasses.replace(self, model=self.model.without_regularisers())

    def without_head(self) -> Network:
        """The network that computes the head's inputs."""
        return dataclasses.replace(self, model=self.model.headless())

    def losses(
        self,
        outputs: Float[Array, "examples outputs"],
        targets: Num[Array, "examples ..."],
        present: Bool[Array, "ways"] | None = None,
    ) -> Float[Array, "examples"]:
        """The loss per example: cross-entropy, or the mean squared error of its outputs.

        Args:
            outputs: of the model.
            targets: class indices (examples,), or numbers with the shape of ``outputs``.
            present: which classes the episode has; the logits of the others are ignored.
        """
        if self.regression:
            return jnp.mean(jnp.square(outputs - targets), axis=-1)
        return optax.losses.softmax_cross_entropy_with_integer_labels(
            only(outputs, present), targets
        )

    def correct(
        self,
        outputs: Float[Array, "examples ways"],
        targets: Num[Array, "examples"],
        present: Bool[Array, "ways"] | None = None,
    ) -> Float[Array, "examples"]:
        """1 for each example whose class has the largest logit, else 0."""
        return (jnp.argmax(only(outputs, present), axis=-1) == targets).astype(outputs.dtype)

    def metrics(
        self,
        outputs: Float[Array, "examples outputs"],
        part: Part,
        present: Bool[Array, "ways"] | None = None,
    ) -> Metrics:
        """The mean ``loss`` over the examples that count, and for classification ``accuracy``.

        An example of a class that the support set lacks, such as when its only support image could
        not be read, cannot be classified correctly and does not count.

        Args:
            outputs: for the examples of ``part``.
            part: their ``target`` and ``mask``.
            present: which classes the support set has.
        """
        targets, counted = part["target"], part["mask"]
        if present is not None:
            counted = counted & present[targets]
        losses = self.losses(outputs, targets, present)
        metrics: Metrics = {"loss": Mean.of(losses, counted, **DECLARED["loss"])}
        if not self.regression:
            correct = self.correct(outputs, targets, present)
            metrics["accuracy"] = Mean.of(correct, counted, **DECLARED["accuracy"])
        return metrics

    def loss(
        self,
        outputs: Float[Array, "examples outputs"],
        part: Part,
        present: Bool[Array, "ways"] | None = None,
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean loss, and `metrics` in which the loss has a weight of one.

        The arguments are those of `metrics`. Episodes therefore have equal weights, regardless of
        how many of their queries count.
        """
        metrics = self.metrics(outputs, part, present)
        loss = metrics["loss"].value()
        mean = dataclasses.replace(metrics["loss"], total=loss, count=jnp.ones_like(loss))
        return loss, {**metrics, "loss": mean}


def only(outputs: Array, present: Array | None) -> Array:
    """Logits in which those of absent classes are so low that their probability is 0."""
    if present is None:
        return outputs
    return jnp.where(present, outputs, jnp.asarray(-1e9, outputs.dtype))


def present_classes(support: Part, ways: int) -> Bool[Array, "ways"]:
    """Which of the labels 0 to ``ways - 1`` the support set has."""
    shown = jax.nn.one_hot(support["target"], ways, dtype=bool) & support["mask"][:, None]
    return jnp.any(shown, axis=0)


def masked_mean(values: Float[Array, "examples"], mask: Bool[Array, "examples"]) -> Array:
    """The mean over the examples that count."""
    weights = mask.astype(values.dtype)
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)
