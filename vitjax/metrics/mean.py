"""Metrics as (sum, count) pairs, so that batches, devices, hosts and padding all add up exactly."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Num


@struct.dataclass
class Mean:
    """A mean that has not been divided yet.

    Attributes:
        total: the weighted sum of the values, a scalar.
        count: the sum of their weights, a scalar.
    """

    total: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def of(cls, values: Num[Array, "batch"], weights: Num[Array, "batch"] | None = None) -> Mean:
        """The mean of per-example ``values``, weighted by ``weights`` (1 if not given)."""
        if weights is None:
            weights = jnp.ones_like(values)
        weights = weights.astype(jnp.result_type(values, jnp.float32))
        # `where` keeps an infinite loss on a padded example from turning into 0 * inf = NaN.
        return cls(
            total=jnp.sum(jnp.where(weights > 0, values * weights, 0)), count=jnp.sum(weights)
        )

    def value(self) -> Float[Array, ""]:
        """``total / count``, and 0 where nothing was counted."""
        return self.total / jnp.maximum(self.count, jnp.finfo(self.count.dtype).tiny)


Metrics = dict[str, Mean]


def add(first: Metrics, second: Metrics) -> Metrics:
    """The metrics of the examples of both."""
    return jax.tree.map(jnp.add, first, second)


def divide(metrics: Mapping[str, Mean]) -> dict[str, float]:
    """The means as Python floats; NaN where nothing was counted."""
    return {
        name: float(mean.total) / float(mean.count) if float(mean.count) else float("nan")
        for name, mean in metrics.items()
    }


def total(batches: list[Metrics]) -> Metrics:
    """The sum over a list of fetched metrics, in float64 so that long lists lose nothing."""
    if not batches:
        return {}
    return jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64)), *batches)
