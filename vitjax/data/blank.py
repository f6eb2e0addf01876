"""Splits whose samples are all blank, for a run that is recalled without its data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitjax.data.sample import Sample


@dataclass(frozen=True)
class BlankSplit:
    """One sample, seen from every index.

    Attributes:
        sample: the sample.
        count: the number of examples.
        title: what errors call the split.
    """

    sample: Sample
    count: int
    title: str

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> np.ndarray:
        """The label of the sample, once per example; it takes no memory."""
        label = np.asarray(self.sample.label)
        return np.broadcast_to(label, (self.count, *label.shape))

    def read(self, index: int) -> Sample:
        """The sample."""
        return self.sample

    def size(self, index: int) -> tuple[int, int]:
        """(height, width)."""
        return self.sample.size

    def name(self, index: int) -> str:
        """The split and the row."""
        return f"{self.title}[{index}]"
