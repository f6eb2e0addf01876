"""One ratio of sums per class, as one array."""

from __future__ import annotations

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Num

from vitjax.metrics.base import Declaration, Sums, Value
from vitjax.metrics.confusion import ratio


@struct.dataclass
class PerClass(Sums):
    """A ratio of sums for each class, reported as their mean and as one array.

    Under the name ``iou`` it reports ``iou``, the mean over the classes that occur (whose count is
    not 0), and ``iou_per_class``, an array with NaN for the other classes.

    Attributes:
        total: the numerator of each class.
        count: the denominator of each class.
        higher_is_better: see `Declaration`.
        unit: see `Declaration`.
    """

    total: Num[Array, "classes"]
    count: Num[Array, "classes"]
    higher_is_better: bool | None = struct.field(pytree_node=False, default=None)
    unit: str = struct.field(pytree_node=False, default="")

    def compute(self) -> Float[np.ndarray, "classes"]:
        """The ratio of each class; NaN for a class that does not occur."""
        return ratio(self.total, self.count)

    def values(self, name: str) -> dict[str, Value]:
        """The mean over the classes that occur, and the array."""
        each = self.compute()
        occurring = each[~np.isnan(each)]
        mean = float(np.mean(occurring)) if len(occurring) else float("nan")
        return {name: mean, f"{name}_per_class": each}

    def declarations(self, name: str) -> dict[str, Declaration]:
        """The declarations of the mean and of the array."""
        mean = Declaration(self.higher_is_better, self.unit)
        each = mean._replace(shape=tuple(self.total.shape), per_class=True)
        return {name: mean, f"{name}_per_class": each}
