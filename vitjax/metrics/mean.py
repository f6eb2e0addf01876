"""The weighted mean of a number per example."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Num

from vitjax.metrics.base import Sums


class Uncounted(float):
    """NaN as the mean of nothing, which is no fault: no example counted."""

    def __new__(cls) -> Uncounted:
        """The value, which is NaN."""
        return super().__new__(cls, "nan")


@struct.dataclass
class Mean(Sums):
    """A weighted mean, as a sum and a weight that are divided at the end.

    Attributes:
        total: the weighted sum of the values, a scalar; an integer where it is a count.
        count: the sum of the weights, a scalar; an integer where it is a count.
        higher_is_better: see `Declaration`; a metric without a direction cannot choose the best
            checkpoint.
        unit: see `Declaration`.
    """

    total: Num[Array, ""]
    count: Num[Array, ""]
    higher_is_better: bool | None = struct.field(pytree_node=False, default=None)
    unit: str = struct.field(pytree_node=False, default="")

    @classmethod
    def of(
        cls,
        values: Num[Array, "batch"],
        weights: Num[Array, "batch"] | None = None,
        *,
        higher_is_better: bool | None = None,
        unit: str = "",
    ) -> Mean:
        """The mean of per-example ``values``, weighted by ``weights`` (None: 1).

        An example of weight 0, such as padding, does not count, whatever its value.
        """
        if weights is None:
            weights = jnp.ones_like(values)
        weights = weights.astype(jnp.result_type(values, jnp.float32))
        # `where` keeps an infinite loss on a padded example from turning into 0 * inf = NaN.
        total = jnp.sum(jnp.where(weights > 0, values * weights, 0))
        return cls(total, jnp.sum(weights), higher_is_better, unit)

    def value(self) -> Float[Array, ""]:
        """``total / count`` inside a step; 0 if nothing was counted."""
        count = self.count.astype(jnp.result_type(self.count, jnp.float32))
        return self.total / jnp.maximum(count, jnp.finfo(count.dtype).tiny)

    def compute(self) -> float:
        """The mean; `Uncounted` if nothing was counted."""
        return float(self.total) / float(self.count) if float(self.count) else Uncounted()
