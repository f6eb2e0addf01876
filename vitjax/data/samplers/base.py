"""What a sampler is, and the registry of samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.data.dataset import Target
from vitjax.data.share import WHERE
from vitjax.data.sources.base import LabelledSplit, Split


class Sampler(ABC):
    """Which example stands at which position of training: a pure function of seed and position.

    So any host can find its rows of any batch, and resuming costs nothing.
    """

    @abstractmethod
    def indices(self, positions: range) -> np.ndarray:
        """The examples at ``positions`` of the endless sequence of training.

        Returns:
            int64 of shape (positions,): indices into the split.
        """


@dataclass(frozen=True)
class Training:
    """What a sampler may depend on.

    Attributes:
        split: the training split.
        target: as of `vitjax.data.dataset.Dataset`.
        class_names: of the source.
        batch_size: of the global batch.
        seed: of the order.
        weights: of the examples by the source, at least 0, float64 of shape (examples,); None if it
            has none.
    """

    split: Split
    target: Target
    class_names: tuple[str, ...]
    batch_size: int
    seed: int
    weights: np.ndarray | None = None

    def classes(self, sampler: str) -> np.ndarray:
        """The class of each example, int32 of shape (examples,).

        Args:
            sampler: which sampler needs them, for the error.

        Raises:
            ConfigError: examples do not have one class each.
        """
        if self.target != "class":
            raise ConfigError(
                f"{WHERE}.sampler.name is {sampler!r}, which needs one class per image, and the"
                f" target of the source is {self.target!r}; 'shuffled' works for all sources"
            )
        return cast(LabelledSplit, self.split).labels


SAMPLERS: Registry[Callable[..., Sampler]] = Registry("sampler")

register = SAMPLERS.register
