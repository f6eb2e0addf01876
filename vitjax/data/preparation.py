"""How an image file becomes an input of a model in evaluation, as plain facts."""

from __future__ import annotations

from dataclasses import dataclass

from vitjax.data.normalization import Normalization
from vitjax.data.transforms.pipeline import Pipeline


@dataclass(frozen=True)
class Preparation:
    """What happens to an image file before the model sees it in evaluation.

    Attributes:
        pipeline: the transforms.
        normalization: mean and standard deviation.
        shape: (height, width, channels) of the result. Without a fixed size of the pipeline, height
            and width are those of an example.
    """

    pipeline: Pipeline
    normalization: Normalization
    shape: tuple[int, int, int]
