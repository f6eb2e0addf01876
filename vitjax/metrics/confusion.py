"""The confusion matrix: how often each class is predicted for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vitjax.metrics.base import Declaration
from vitjax.metrics.collected import MEASURES, Measure


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
