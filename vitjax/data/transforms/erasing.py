"""Random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from vitjax.core.validation import Bounds, Fraction
from vitjax.data.errors import DataError
from vitjax.data.transforms.base import Photometric, register
from vitjax.data.transforms.values import AreaSpan, Span

_TRIES = 10  # as torchvision

Value = Annotated[float, Bounds(at_least=-255, at_most=255)]


@register("random_erasing")
@dataclass(frozen=True)
class RandomErasing(Photometric):
    """Overwrites a random rectangle of the image; masks and boxes stay as they are.

    Zhong et al. 2017, arXiv 1708.04896, algorithm 1; the rectangle is drawn as torchvision does.

    Attributes:
        p: probability of erasing.
        scale: area of the rectangle as a fraction of the image's, (least, most).
        ratio: height of the rectangle over its width, (least, most).
        value: number to fill in, one for each channel, or "random" for noise from 0 to 255 (0 to
            1 in images of floats).
    """

    p: Fraction = 0.5
    scale: AreaSpan = (0.02, 0.33)
    ratio: Span = (0.3, 3.3)
    value: Value | tuple[Value, ...] | Literal["random"] = 0

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with a rectangle overwritten, or as it was."""
        if rng.random() >= self.p:
            return image
        height, width, channels = image.shape
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                image = image.copy()
                image[top : top + h, left : left + w] = self._filling((h, w, channels), image, rng)
                return image
        return image

    def _filling(
        self, shape: tuple[int, int, int], image: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | float:
        if self.value == "random":
            if image.dtype == np.uint8:
                return rng.integers(0, 256, shape, dtype=np.uint8)
            return rng.random(shape, dtype=np.float32)
        values = np.asarray(self.value)
        if values.ndim and len(values) != shape[-1]:
            raise DataError(
                f"random_erasing has {len(values)} values for images of {shape[-1]} channels"
            )
        return values.astype(image.dtype)
