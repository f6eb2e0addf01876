"""Section ``data`` of a config: the keys that the loaders read, with what their values may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vitjax.core.validation import BatchSize, Bounds, Length, PositiveFloat, PositiveInt, Workers
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.weight_maps import WeightSettings

PerChannel = float | Annotated[Sequence[float], Length()]
PositivePerChannel = PositiveFloat | Annotated[Sequence[PositiveFloat], Length()]


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """What all kinds of data read.

    Attributes:
        batch_size: examples (or episodes) of the global training batch, over all hosts.
        eval_batch_size: the same for evaluation; None means ``batch_size``.
    """

    batch_size: BatchSize
    eval_batch_size: BatchSize | None = None


@dataclass(frozen=True, kw_only=True)
class ImageFileSettings(LoaderSettings):
    """What all data of images reads.

    Attributes:
        train_transforms: a pipeline, see `vitjax.data.transforms.parse`; None means no transforms
            or, for episodes, ``eval_transforms``.
        eval_transforms: the same for evaluation.
        mean: subtracted from images, one number per channel or one for all, where 1 is white; None
            means 0.
        std: divisor of images; None means 1.
        workers: processes that read ahead; 0 reads ahead in threads of this process.
        on_corrupt: "error", or "skip" to mask corrupt images.
        max_pixels: the pixels of the largest image file that is read.
    """

    train_transforms: str | None = None
    eval_transforms: str = ""
    mean: PerChannel | None = None
    std: PositivePerChannel | None = None
    workers: Workers = 0
    on_corrupt: Literal["error", "skip"] = "error"
    max_pixels: PositiveInt = MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class ExampleSettings(ImageFileSettings):
    """What data of single examples reads.

    Attributes:
        sampler: ``name`` of a sampler and its keywords, see `vitjax.data.samplers`; None means
            ``{"name": "weighted"}`` if the source has a weight for each example, else
            ``{"name": "shuffled"}``.
    """

    sampler: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class MaskSettings(ExampleSettings):
    """What data with masks reads.

    Attributes:
        weight_map: weights of pixels in the loss; None for no weights.
    """

    weight_map: WeightSettings | None = None


@dataclass(frozen=True, kw_only=True)
class BoxSettings(ExampleSettings):
    """What data with boxes reads.

    Attributes:
        max_boxes: the number of boxes that each image is padded to; more in an image are an error.
    """

    max_boxes: Annotated[int, Bounds(at_least=1, at_most=10**6)] = 100
