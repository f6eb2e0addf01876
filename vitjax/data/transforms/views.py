"""Two views of an image, for self-supervised learning."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.sample import Sample
from vitjax.data.transforms.base import Size, Transform, register
from vitjax.data.transforms.pipeline import Pipeline, parse


@register("two_views")
@dataclass(frozen=True)
class TwoViews(Transform):
    """Transforms an image twice, with different random numbers: ``image`` and ``second_image``.

    SimCLR (Chen et al. 2020, arXiv 2002.05709, Section 2.1) compares such views. All other fields
    are those of the first view.

    Attributes:
        first: the pipeline of the first view, such as ``"random_resized_crop(32) | flip"``.
        second: the pipeline of the second view; None for ``first``.
    """

    first: str
    second: str | None = None
    _pipelines: tuple[Pipeline, Pipeline] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        second = self.first if self.second is None else self.second
        object.__setattr__(self, "_pipelines", (parse(self.first), parse(second)))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample with two images.

        Raises:
            DataError: the views differ in size, or the sample has a second image already.
        """
        if sample.second_image is not None:
            raise DataError("two_views: the sample has a second image already")
        first, second = (pipeline(sample, rng) for pipeline in self._pipelines)
        if first.image.shape != second.image.shape:
            raise DataError(
                f"two_views: the first view is of shape {first.image.shape}, the second of"
                f" {second.image.shape}; both pipelines must give one size"
            )
        return first.replace(second_image=second.image)

    def sized(self, size: Size | None) -> Size | None:
        """(height, width) of a view of an image of ``size``."""
        return self._pipelines[0].sized(size)
