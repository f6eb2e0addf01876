"""Batches of what a network made of the images once, in place of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vitjax.core.text import near_match
from vitjax.data.batching import Rows
from vitjax.data.errors import DataError
from vitjax.data.iterator import Batch
from vitjax.data.loader import Data
from vitjax.data.transforms.pipeline import Pipeline


@dataclass(frozen=True)
class Features(Rows):
    """The features of a split's examples, in its order.

    Attributes:
        split: where the examples are from.
        array: of all of them.
        labels: their classes, int32.
        mask: False where an image could not be read, and was left out.
        seed: plays no part; nothing here is random.
    """

    split: Any
    array: Float[np.ndarray, "examples width"]
    labels: np.ndarray
    mask: Bool[np.ndarray, "examples"]
    seed: int = 0

    def blank(self) -> dict[str, np.ndarray]:
        """Zeros of class 0."""
        return {
            "features": np.zeros(self.array.shape[1:], self.array.dtype),
            "label": np.zeros((), np.int32),
        }

    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The features and the label of the example at ``index``."""
        return {"features": self.array[index], "label": self.labels[index]}

    def batch(self, indices: np.ndarray, positions: range, size: int) -> dict[str, np.ndarray]:
        """The examples at ``indices``, followed by masked padding; all of them in one copy."""
        batch = {
            key: np.zeros((size, *empty.shape), empty.dtype) for key, empty in self.blank().items()
        }
        count = len(indices)
        batch["features"][:count], batch["label"][:count] = (
            self.array[indices],
            self.labels[indices],
        )
        mask = np.zeros(size, bool)
        mask[:count] = self.mask[indices]
        return {**batch, "mask": mask}


class FeatureData(Data):
    """`Data` whose batches hold ``features`` (b, width) in place of ``image``.

    Order, splits, labels and all else are those of the data whose features they are, so that batch
    n has the examples that it would have there.
    """

    def __init__(self, data: Data, features: Mapping[str, tuple[np.ndarray, np.ndarray]]):
        """Puts features in the place of images.

        Args:
            data: whose features they are.
            features: of each split that will be asked for (examples, width), and which of the
                examples count (examples,), all in the split's order.
        """
        vars(self).update(vars(data))
        self._features = {
            name: Features(data.source.split(name), array, data.labels(name), mask)
            for name, (array, mask) in features.items()
        }
        self._workers = None  # a batch is made sooner than a thread could hand it over

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: its features, and its image for making a network."""
        blank = next(iter(self._features.values())).blank()
        return {**super().example_batch(evaluated), "features": blank["features"][None]}

    def _train_rows(self) -> Features:
        return self._examples("train", self._train)

    def _examples(self, name: str, pipeline: Pipeline) -> Any:
        if name not in self._features:
            known = ", ".join(self._features)
            raise DataError(
                f"no features of split {name!r}{near_match(name, self._features)} (of: {known})"
            )
        return self._features[name]
