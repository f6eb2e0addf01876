"""Between NumPy images and the libraries that work on them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from vitjax.data.errors import DataError

# Each pixel is the mean of those it covers, weighted where it covers them in part.
AREA = "area"

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    AREA: Image.Resampling.BILINEAR,  # where a side grows: there is nothing to average then
}


def resized(
    image: np.ndarray,
    size: tuple[int, int],
    interpolation: str,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """``image`` at another size, with antialiasing where it shrinks.

    Args:
        image: uint8 or float32, (height, width, channels).
        size: the new (height, width).
        interpolation: a key of `INTERPOLATIONS`.
        box: (left, top, right, bottom) of the part to take, in pixels; None takes all. Of a part
            that shrinks by "area", they are integers.
    """
    height, width = size
    if box is None and image.shape[:2] == size:
        return image
    if interpolation == AREA:
        left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
        if height <= bottom - top and width <= right - left:
            # Pillow's box filter does not weight pixels that are covered in part.
            return _averaged(image[int(top) : int(bottom), int(left) : int(right)], size)
    resample = INTERPOLATIONS[interpolation]
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(to_pillow(image).resize((width, height), resample, box))
    # Pillow has no mode for other kinds of image, but each channel is one of its own.
    planes = [
        np.asarray(to_pillow(image[..., c : c + 1]).resize((width, height), resample, box))
        for c in range(image.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def _averaged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    planes = [
        cv2.resize(
            np.ascontiguousarray(image[..., c : c + 4]), (width, height), None, 0, 0, cv2.INTER_AREA
        ).reshape(height, width, -1)
        for c in range(0, image.shape[-1], 4)  # OpenCV resizes four channels at most
    ]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def to_pillow(image: np.ndarray) -> Image.Image:
    """(height, width, 1 or 3) as a Pillow image."""
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))


def with_pillow(
    image: np.ndarray, function: Callable[[Image.Image], Image.Image], name: str
) -> np.ndarray:
    """Applies ``function``, which keeps size and mode, to a grey or RGB uint8 image.

    Raises:
        DataError: the image is of another kind; ``name`` says which transform wanted it.
    """
    if image.dtype != np.uint8 or image.shape[-1] not in (1, 3):
        raise DataError(
            f"{name} works on uint8 images with 1 or 3 channels, not {image.dtype} of shape"
            f" {image.shape}"
        )
    return np.asarray(function(to_pillow(image))).reshape(image.shape)
