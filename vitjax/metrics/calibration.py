"""The expected calibration error: how well probabilities agree with frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitjax.metrics.collected import MEASURES, Measure


@MEASURES.register("calibration_error", target="class")
@dataclasses.dataclass(frozen=True)
class CalibrationError(Measure):
    """The expected calibration error: Guo et al. 2017, arXiv:1706.04599, Eq. 3.

    Predictions are sorted into bins of equal width by their confidence, the largest probability.
    The error is the mean over bins of the distance between accuracy and mean confidence, weighted
    by the number of predictions in a bin.

    Attributes:
        bins: the number of bins; the paper uses 15.
    """

    higher_is_better: ClassVar[bool | None] = False
    unit: ClassVar[str] = "fraction"

    bins: int = 15

    def collect(
        self, outputs: Float[Array, "batch classes"], batch: Mapping[str, Any]
    ) -> dict[str, Array]:
        """The confidence of each prediction, and whether it is right."""
        right = jnp.argmax(outputs, axis=-1) == batch["label"]
        return {"confidence": jnp.max(outputs, axis=-1), "right": right}

    def compute(self, examples: Any) -> float:
        """The error, in [0, 1]; NaN for no examples."""
        confidence = np.asarray(examples["confidence"], np.float64)
        right = np.asarray(examples["right"], np.float64)
        if not len(confidence):
            return float("nan")
        gaps = np.bincount(bins_of(confidence, self.bins), right - confidence, minlength=self.bins)
        return float(np.sum(np.abs(gaps)) / len(confidence))


def bins_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence in [0, 1]; bins are (lower, upper], as in the paper."""
    return np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(int)
