"""Batches of features that a network computed from the images, in place of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from vitjax.core.text import near_match
from vitjax.data.errors import DataError
from vitjax.data.examples import Rows
from vitjax.data.images import Data
from vitjax.data.iterator import Batch
from vitjax.data.sources.base import Split


@dataclass(frozen=True)
class FeatureRows(Rows):
    """The features of a split's examples, in its order.

    Attributes:
        split: where the examples are from.
        array: features of all examples.
        labels: their classes, int32.
        mask: False where an image could not be read and was left out.
        seed: unused, as nothing here is random.
    """

    split: Split
    array: Float[np.ndarray, "examples width"]
    labels: np.ndarray
    mask: Bool[np.ndarray, "examples"]
    seed: int = 0
    cheap: ClassVar[bool] = True

    def blank(self) -> Mapping[str, np.ndarray]:
        """Zeros of class 0."""
        return {
            "features": np.zeros(self.array.shape[1:], self.array.dtype),
            "label": np.zeros((), np.int32),
        }

    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The features and the label of the example at ``index``."""
        return {"features": self.array[index], "label": self.labels[index]}

    def batch(self, indices: np.ndarray, positions: range, size: int) -> Batch:
        """The examples at ``indices``, followed by masked padding; all of them in one copy."""
        batch = {
            key: np.zeros((size, *empty.shape), empty.dtype) for key, empty in self.blank().items()
        }
        count = len(indices)
        batch["features"][:count] = self.array[indices]
        batch["label"][:count] = self.labels[indices]
        mask = np.zeros(size, bool)
        mask[:count] = self.mask[indices]
        return {**batch, "mask": mask}


class FeatureData(Data):
    """`Data` whose batches hold ``features`` (b, width) in place of ``image``.

    Order, splits and labels are those of the data that the features were computed from, so that
    batch n has the same examples.
    """

    def __init__(self, data: Data, features: Mapping[str, tuple[np.ndarray, np.ndarray]]):
        """Puts features in the place of images.

        Args:
            data: what the features were computed from.
            features: for each split that will be used, features (examples, width) and which of the
                examples count (examples,), both in the split's order.
        """
        vars(self).update(vars(data))
        self._features = {
            name: FeatureRows(data.source.split(name), array, data.labels(name), mask)
            for name, (array, mask) in features.items()
        }

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: its features, and its image to initialise a network."""
        blank = next(iter(self._features.values())).blank()
        images = super()._eval_rows(self._first_evaluated) if evaluated else super()._train_rows()
        image = images.blank()["image"]
        return {
            "image": image[None],
            "label": np.zeros(1, np.int32),
            "features": blank["features"][None],
            "mask": np.ones(1, bool),
        }

    def _train_rows(self) -> Rows:
        return self._rows("train")

    def _eval_rows(self, split: str) -> Rows:
        return self._rows(split)

    def _rows(self, split: str) -> FeatureRows:
        if split not in self._features:
            known = ", ".join(self._features)
            raise DataError(
                f"no features of split {split!r}{near_match(split, self._features)} (of: {known})"
            )
        return self._features[split]
