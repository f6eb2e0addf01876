"""Corruptions of images as transforms: for training with them, or evaluating a run on one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from vitjax.core.validation import Bounds, Fraction, OneOf
from vitjax.data.corruptions import CORRUPTIONS, Severity, corrupt, drop_patches, patch_shuffle
from vitjax.data.errors import DataError
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import Photometric, register

_Grid = Annotated[int, Bounds(at_least=1, at_most=2**14)]


@register("corrupt")
@dataclass(frozen=True)
class Corrupt(Photometric):
    """Applies a common corruption; masks and boxes stay as they are.

    Hendrycks & Dietterich 2019, arXiv:1903.12261; see `vitjax.data.corruptions`.

    Attributes:
        corruption: its name.
        severity: from 1 to 5; a pair draws one from the first to the second.
    """

    corruption: Annotated[str, OneOf(CORRUPTIONS)]
    severity: Severity | tuple[Severity, Severity] = 3

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The corrupted image."""
        severity = self.severity
        if isinstance(severity, tuple):
            severity = int(rng.integers(min(severity), max(severity) + 1))
        return corrupt(image, self.corruption, severity, rng)


@register("patch_shuffle")
@dataclass(frozen=True)
class PatchShuffle(Photometric):
    """Puts the patches of an image in random order, which destroys shape and keeps texture.

    Naseer et al. 2021, arXiv:2105.10497, Sec. 3.3.

    Attributes:
        grid: patches along each side.
    """

    grid: _Grid = 4
    reversible = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample with a shuffled image."""
        if any(each is not None for each in (sample.mask, sample.instances, sample.boxes)):
            raise DataError(
                "patch_shuffle moves parts of images alone, and this one has masks or boxes"
            )
        return super().__call__(sample, rng)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The shuffled image."""
        return patch_shuffle(image, self.grid, rng)


@register("drop_patches")
@dataclass(frozen=True)
class DropPatches(Photometric):
    """Makes random patches of an image black; masks and boxes stay as they are.

    Naseer et al. 2021, arXiv:2105.10497, Sec. 3.1.

    Attributes:
        fraction: of the patches.
        grid: patches along each side.
    """

    fraction: Fraction = 0.5
    grid: _Grid = 14

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with black patches."""
        return drop_patches(image, self.fraction, self.grid, rng)
