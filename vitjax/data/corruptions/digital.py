"""Digital: contrast, elastic deformation, pixelation and JPEG."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from vitjax.data.corruptions.base import Published, as_bytes, as_floats, register
from vitjax.data.corruptions.blur import gaussian
from vitjax.data.image_files import decode_image
from vitjax.data.transforms.pixels import to_pillow

# Hendrycks & Dietterich 2019. The factor of what differs from the mean.
_CONTRAST = Published((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
# Strength and smoothness of displacements, and the reach of an affine map. The published values
# are multiples of 32 and, for images of 224 pixels, of 244.
_ELASTIC = Published(
    tuple(
        (32 * strength, 32 * smoothness, 32 * reach)
        for strength, smoothness, reach in (
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        )
    ),
    tuple(
        (244 * strength, 244 * smoothness, 244 * reach)
        for strength, smoothness, reach in (
            (2, 0.7, 0.1),
            (2, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        )
    ),
)
# The fraction of each side.
_PIXELS = Published((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
_QUALITY = Published((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))


@register("contrast", kind="digital")
def contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Brings all values nearer to the mean of their channel."""
    del rng
    factor, _ = _CONTRAST.at(image, severity)
    values = as_floats(image)
    mean = values.mean(axis=(0, 1), keepdims=True)
    return as_bytes(mean + np.float32(factor) * (values - mean))


@register("elastic_transform", kind="digital")
def elastic_transform(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Maps the image by a random affine map and random smooth displacements.

    The first two severities of large images are strong and coarse, the others weak and fine, as
    published.
    """
    (strength, smoothness, reach), factor = _ELASTIC.at(image, severity)
    height, width = image.shape[:2]
    middle = np.array([width, height], np.float32) // 2
    arm = max(1, min(height, width) // 3)
    corners = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    moved = corners + rng.uniform(-1, 1, (3, 2)).astype(np.float32) * np.float32(reach * factor)
    values = cv2.warpAffine(
        as_floats(image),
        cv2.getAffineTransform(corners, moved),
        (width, height),
        borderMode=cv2.BORDER_REFLECT,
    ).reshape(image.shape)
    # A Gaussian of s pixels divides the deviation of noise by s, so that displacements in pixels
    # grow with the side if the strength grows with its square.
    noise = rng.uniform(-1, 1, (2, height, width)).astype(np.float32)
    dy, dx = (
        gaussian(each, smoothness * factor, cv2.BORDER_REFLECT) * np.float32(strength * factor**2)
        for each in noise
    )
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = cv2.remap(
        values, columns + dx, rows + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return as_bytes(found.reshape(image.shape))


@register("pixelate", kind="digital")
def pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Enlarges an image of low resolution without smoothing."""
    del rng
    fraction, _ = _PIXELS.at(image, severity)
    height, width = image.shape[:2]
    small = (max(1, int(width * fraction)), max(1, int(height * fraction)))
    drawn = to_pillow(image).resize(small, Image.Resampling.BOX)
    drawn = drawn.resize((width, height), Image.Resampling.BOX)
    return np.asarray(drawn).reshape(image.shape)


@register("jpeg_compression", kind="digital")
def jpeg_compression(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Compresses the image as JPEG of low quality."""
    del rng
    quality, _ = _QUALITY.at(image, severity)
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=quality)
    channels = 1 if image.ndim == 2 else image.shape[-1]
    return decode_image(file.getvalue(), channels, "jpeg_compression").reshape(image.shape)
