"""The confusion matrix: how often each class is predicted for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vitjax.metrics.base import Declaration
from vitjax.metrics.collected import MEASURES, Measure


class ClassScores(NamedTuple):
    """How well each class is found; NaN where a ratio has no examples.

    Attributes:
        precision: the fraction of the predictions of the class that are right.
        recall: the fraction of the examples of the class that are found.
        f1: the harmonic mean of both, 2 right / (predicted + true).
        support: the number of examples of the class.
        predicted: the number of predictions of the class.
    """

    precision: Float[np.ndarray, "classes"]
    recall: Float[np.ndarray, "classes"]
    f1: Float[np.ndarray, "classes"]
    support: Int[np.ndarray, "classes"]
    predicted: Int[np.ndarray, "classes"]

    @classmethod
    def of(
        cls,
        right: Int[np.ndarray, "classes"],
        predicted: Int[np.ndarray, "classes"],
        true: Int[np.ndarray, "classes"],
    ) -> ClassScores:
        """The scores for the numbers of right predictions, predictions and examples per class."""
        return cls(
            ratio(right, predicted),
            ratio(right, true),
            ratio(2 * right, predicted + true),
            true,
            predicted,
        )


def ratio(part: Any, total: Any) -> Float[np.ndarray, "*shape"]:
    """``part / total``, NaN where ``total`` is 0."""
    part, total = np.asarray(part, np.float64), np.asarray(total, np.float64)
    found: np.ndarray = np.divide(part, total, out=np.full(part.shape, np.nan), where=total > 0)
    return found


@MEASURES.register("confusion_matrix", target="class")
@dataclasses.dataclass(frozen=True)
class ConfusionMatrix(Measure):
    """Counts of examples by true class (rows) and predicted class (columns).

    Attributes:
        num_classes: the number of classes.
    """

    unit: ClassVar[str] = "examples"

    num_classes: int

    def collect(
        self, outputs: Float[Array, "batch classes"], batch: Mapping[str, Any]
    ) -> dict[str, Array]:
        """The true and the predicted class of each example."""
        return {"label": batch["label"], "prediction": jnp.argmax(outputs, axis=-1)}

    def reduce(self, examples: Any) -> Int[np.ndarray, "classes classes"]:
        """The counts of one batch."""
        cells = examples["label"].astype(np.int64) * self.num_classes + examples["prediction"]
        counts = np.bincount(cells, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def join(self, parts: Sequence[Any]) -> Int[np.ndarray, "classes classes"]:
        """The sum of the counts."""
        total: np.ndarray = np.sum(parts, axis=0)
        return total

    def compute(self, examples: Any) -> Int[np.ndarray, "classes classes"]:
        """The counts."""
        counts: np.ndarray = examples
        return counts

    def declarations(self, name: str) -> dict[str, Declaration]:
        """A matrix of counts, without a direction."""
        shape = (self.num_classes, self.num_classes)
        return {name: Declaration(None, self.unit, shape, per_class=True)}
