"""How accurate a recurrent network is at each time step, and when it decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vitjax.metrics.base import Declaration
from vitjax.metrics.collected import MEASURES, Measure
from vitjax.metrics.confusion import ratio


def right_at_steps(
    logits: Float[Array, "time batch classes"], labels: Int[Array, "batch"]
) -> Bool[Array, "batch time"]:
    """Whether the largest logit of each example and time step is that of its class."""
    return (jnp.argmax(logits, axis=-1) == labels).T


def reaction_times(
    logits: Float[Array, "time batch classes"], threshold: float
) -> Int[Array, "batch"]:
    """The first time step, counted from 1, at which the readout is certain.

    That is where the entropy of the softmax, in nats, is below ``threshold``: Spoerer et al. 2020,
    doi:10.1371/journal.pcbi.1008215, Methods. An example without such a step has the number of
    steps plus 1.
    """
    log = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    # A class of probability 0 has log p = -inf, and adds nothing.
    entropy = -jnp.sum(jnp.where(jnp.isfinite(log), jnp.exp(log) * log, 0), axis=-1)
    certain = entropy < threshold
    first = jnp.argmax(certain, axis=0) + 1
    return jnp.where(jnp.any(certain, axis=0), first, len(logits) + 1)


@MEASURES.register("accuracy_over_time", target="class")
@dataclasses.dataclass(frozen=True)
class AccuracyOverTime(Measure):
    """The accuracy at each time step of a recurrent network, as one array.

    Attributes:
        time_steps: the number of steps.
    """

    higher_is_better: ClassVar[bool | None] = True
    unit: ClassVar[str] = "fraction"
    over_time: ClassVar[bool] = True

    time_steps: int

    def collect(
        self, outputs: Float[Array, "time batch classes"], batch: Mapping[str, Any]
    ) -> Bool[Array, "batch time"]:
        """Whether each example is right at each step."""
        return right_at_steps(outputs, batch["label"])

    def reduce(self, examples: Any) -> tuple[Int[np.ndarray, "time"], int]:
        """The numbers of right examples, and of examples."""
        return np.sum(examples, axis=0), len(examples)

    def join(self, parts: Sequence[Any]) -> tuple[Int[np.ndarray, "time"], int]:
        """The sums of both."""
        right, counts = zip(*parts, strict=True)
        return np.sum(right, axis=0), sum(counts)

    def compute(self, examples: Any) -> Float[np.ndarray, "time"]:
        """The accuracies; NaN for no examples."""
        right, count = examples
        return ratio(right, np.full(self.time_steps, count))

    def declarations(self, name: str) -> dict[str, Declaration]:
        """An array with one accuracy per step."""
        return {name: Declaration(self.higher_is_better, self.unit, (self.time_steps,))}


@MEASURES.register("reaction_time", target="class")
@dataclasses.dataclass(frozen=True)
class ReactionTime(Measure):
    """The mean of `reaction_times` over examples, and the fraction of those that never decide.

    It reports ``reaction_time``, in which an example that never decides counts as the number of
    steps plus 1, and ``undecided``, the fraction of such examples. Neither has a direction: a
    network that is certain too early is fast and wrong.

    Attributes:
        time_steps: the number of steps.
        entropy_threshold: in nats.
    """

    unit: ClassVar[str] = "time steps"
    over_time: ClassVar[bool] = True

    time_steps: int
    entropy_threshold: float

    def collect(
        self, outputs: Float[Array, "time batch classes"], batch: Mapping[str, Any]
    ) -> Int[Array, "batch"]:
        """The reaction time of each example."""
        del batch
        return reaction_times(outputs, self.entropy_threshold)

    def compute(self, examples: Any) -> dict[str, float]:
        """The mean, and the fraction that never decides; NaN for no examples."""
        times = np.asarray(examples, np.float64)
        if not len(times):
            return {"reaction_time": float("nan"), "undecided": float("nan")}
        undecided = float(np.mean(times > self.time_steps))
        return {"reaction_time": float(np.mean(times)), "undecided": undecided}

    def declarations(self, name: str) -> dict[str, Declaration]:
        """Both numbers."""
        return {name: Declaration(None, self.unit), "undecided": Declaration(None, "fraction")}
