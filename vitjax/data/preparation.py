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
        shape: (height, width, channels) of the result; with ``any_size``, of an example.
        channels: that files are read with: 3 for RGB, 1 for grey.
        sixteen_bits: whether grey files of 16 bits become floats, 65535 being 1; otherwise their
            upper 8 bits are read.
        any_size: whether results may have any height and width.
    """

    pipeline: Pipeline
    normalization: Normalization
    shape: tuple[int, int, int]
    channels: int
    sixteen_bits: bool = False
    any_size: bool = False
