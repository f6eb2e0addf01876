"""A model as episodes use it: which statistics normalise, and what its outputs are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Num

from vitjax.metrics.mean import Mean, Metrics
from vitjax.models.protocol import Model

Part = Mapping[str, Array]
# What batch normalisation may take in inductive evaluation, see `Network.inductive_state`.
STATISTICS = ("support", "running")


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, applied to one part (support or query) of one episode at a time.

    Attributes:
        model: called ``model(inputs, train=...)``.
        normalize: maps a part's inputs to what the model is fed.
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
        """The outputs, and the state after them.

        Args:
            params: of the model.
            state: its other collections, such as ``{"batch_stats": ...}``.
            inputs: one part of one episode.
            train: normalise by the statistics of ``inputs``; else by those in ``state``.
            rng: of dropout; None for none.
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
        """``state`` with the statistics of ``inputs`` themselves, not their running means.

        A running mean moves from r to m r + (1 - m) b for a batch's b, whatever the layer calls its
        momentum m. From r = 0 and r = 1 one reads m, and so b.
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
            # m is the same for all channels, and read off best where the fewest digits are lost.
            at = jnp.argmin(jnp.abs(low.ravel()))
            momentum = high.ravel()[at] - low.ravel()[at]
            return low / (1 - momentum)

        return jax.tree.map(exact, low, high)

    def inductive_state(
        self,
        params: Any,
        state: Mapping[str, Any],
        support_inputs: Num[Array, "examples *shape"],
        how: str,
    ) -> dict[str, Any]:
        """The state by which single queries are normalised.

        Args:
            params: of the model.
            state: its other collections.
            support_inputs: of the query's episode.
            how: one of `STATISTICS`: ``"support"`` for the moments of ``support_inputs``,
                ``"running"`` for those of ``state``.
        """
        return self.moments(params, state, support_inputs) if how == "support" else dict(state)

    def without_regularisers(self) -> Network:
        """The same network without dropout, for outputs under batch statistics that are certain."""
        return dataclasses.replace(self, model=self.model.without_regularisers())

    def losses(
        self,
        outputs: Float[Array, "examples outputs"],
        targets: Num[Array, "examples ..."],
        present: Bool[Array, "ways"] | None = None,
    ) -> Float[Array, "examples"]:
        """Each example's loss: cross-entropy, or the mean squared error of its outputs.

        Args:
            outputs: of the model.
            targets: class indices (examples,), or numbers like ``outputs``.
            present: which classes the episode has; the others' logits play no part.
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
        """1 for each example whose class has the largest output, else 0."""
        return (jnp.argmax(only(outputs, present), axis=-1) == targets).astype(outputs.dtype)

    def worth(
        self,
        outputs: Float[Array, "examples outputs"],
        part: Part,
        present: Bool[Array, "ways"] | None = None,
    ) -> Metrics:
        """The mean ``loss`` over the examples that count, and ``accuracy`` of a classification.

        An example whose class the episode does not show, as when its only support image could not
        be read, has no answer that could be right: it does not count.

        Args:
            outputs: for the examples of ``part``.
            part: their ``target`` and ``mask``.
            present: which classes the episode shows.
        """
        targets, counted = part["target"], part["mask"]
        if present is not None:
            counted = counted & present[targets]
        worth = {"loss": Mean.of(self.losses(outputs, targets, present), counted)}
        if not self.regression:
            worth["accuracy"] = Mean.of(self.correct(outputs, targets, present), counted)
        return worth


def only(outputs: Array, present: Array | None) -> Array:
    """Logits with those of absent classes so low that they have no probability."""
    if present is None:
        return outputs
    return jnp.where(present, outputs, jnp.asarray(-1e9, outputs.dtype))


def masked_mean(values: Float[Array, "examples"], mask: Bool[Array, "examples"]) -> Array:
    """The mean over the examples that count."""
    weights = mask.astype(values.dtype)
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


def present_classes(support: Part, ways: int) -> Bool[Array, "ways"]:
    """Which of ``ways`` labels the support set shows."""
    shown = jax.nn.one_hot(support["target"], ways, dtype=bool) & support["mask"][:, None]
    return jnp.any(shown, axis=0)
