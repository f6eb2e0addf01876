"""Images to predict: files, opened images, or arrays, all to the same pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from vitjax.core.paths import expanded
from vitjax.data.errors import DataError
from vitjax.data.image_files import converted, read_image, undecodable
from vitjax.data.image_formats import MAX_PIXELS, check_pixels

# A file, a Pillow image, or pixels, (height, width) or (height, width, channels): bytes, 16 bits or
# floats where 1 is white.
AnyImage = str | os.PathLike[str] | Image.Image | np.ndarray

# Floats from black 0 to white 1, with room for what sharpening and resizing leave outside.
_LEAST, _MOST = -0.5, 1.5


def is_file(image: AnyImage) -> bool:
    """Whether an image is the path of a file."""
    return isinstance(image, str | os.PathLike)


def several(images: AnyImage | Iterable[AnyImage]) -> list[AnyImage]:
    """Images as a list; a single one is a list of one, and (n, height, width, channels) are n.

    Raises:
        DataError: what is given is neither an image nor several.
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        return [expanded(images)]
    if isinstance(images, np.ndarray) and images.ndim in (0, 1, 2, 3):
        return [images]
    if isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise _no_image(images)
    return list(map(expanded, images))


def name_of(image: AnyImage, number: int | None = None) -> str:
    """What results and errors call an image: its path, or that it is the image ``number``."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    file = image.filename if isinstance(image, ImageFile) else ""
    return os.fsdecode(file) or ("the image" if number is None else f"image {number}")


def read_any_image(
    image: AnyImage,
    channels: int,
    page: int = 0,
    *,
    sixteen_bits: bool = False,
    max_pixels: int = MAX_PIXELS,
    any_range: bool = False,
) -> np.ndarray:
    """The pixels of an image, as `vitjax.data.image_files.read_image` gives those of a file.

    A file, the image that Pillow opens, and its pixels as an array have the same result.

    Args:
        image: the image.
        channels: 3 for RGB or 1 for grey.
        page: of a file with several, from 0.
        sixteen_bits: as in `read_image`.
        max_pixels: of a file, or an image that Pillow opened, likewise.
        any_range: whether floats may be far outside of [0, 1], as those of the data can be.

    Returns:
        (height, width, channels), uint8 or float32.

    Raises:
        CorruptImage: it cannot be read, or not decoded in full.
        DataError: an array is not an image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, channels, page, sixteen_bits=sixteen_bits, max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        return _of_pillow(image, channels, sixteen_bits, max_pixels)
    if not isinstance(image, np.ndarray):
        raise _no_image(image)
    return _of_array(image, channels, sixteen_bits, any_range)


def _no_image(image: object) -> DataError:
    return DataError(
        f"an image is a path, a Pillow image or a NumPy array, not {type(image).__name__}"
    )


def _of_pillow(
    image: Image.Image, channels: int, sixteen_bits: bool, max_pixels: int
) -> np.ndarray:
    try:
        if isinstance(image, ImageFile):  # which may not be decoded yet
            check_pixels(image.height, image.width, max_pixels)
        image.load()
        return converted(image, channels, sixteen_bits)
    except Exception as error:
        raise undecodable(name_of(image), error) from error


def _of_array(array: np.ndarray, channels: int, sixteen_bits: bool, any_range: bool) -> np.ndarray:
    pixels = array[..., None] if array.ndim == 2 else array
    floats = np.issubdtype(pixels.dtype, np.floating)
    known = pixels.dtype in (np.uint8, np.uint16) or floats
    sizes = sorted({1, 3, 4, channels})
    if pixels.ndim != 3 or pixels.shape[-1] not in sizes or not known or not pixels.size:
        raise DataError(
            "an image as an array must be (height, width) or (height, width, channels) of uint8,"
            f" uint16 or floats where 1 is white, with {', '.join(map(str, sizes))} channels; this"
            f" one is {array.dtype} of shape {array.shape}"
        )
    if floats:
        _check_values(pixels, any_range)
        return _float_channels(pixels.astype(np.float32), channels)
    if pixels.dtype == np.uint16:
        if sixteen_bits:
            return _float_channels(pixels.astype(np.float32) / 65535, channels)
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[-1] == channels:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return converted(image, channels, False)


def _check_values(pixels: np.ndarray, any_range: bool) -> None:
    """Raises DataError for floats that are no image's."""
    least, most = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        bad = int(np.count_nonzero(~np.isfinite(pixels)))
        raise DataError(
            f"an image of floats has {bad:,} value{'s' * (bad > 1)} of NaN or infinity, of"
            f" {pixels.size:,}"
        )
    if not any_range and (least < _LEAST or most > _MOST):
        raise DataError(
            f"an image of floats has values from {least:.4g} to {most:.4g}, where 0 is black and 1"
            " is white; divide values of 0..255 by 255, or give uint8, and give an image as it is"
            " before it is normalised"
        )


def _float_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Floats with the given number of channels: grey is repeated, nothing else is converted."""
    if pixels.shape[-1] == channels:
        return pixels
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, channels, axis=-1)
    raise DataError(
        f"an image of floats has {pixels.shape[-1]} channels, and the model was trained on"
        f" {channels}; convert it"
    )
