"""Masks out of image files: 8 and 16 bits, palettes, the pages of a TIFF."""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

from vitjax.data.image_files import undecodable, upright


def read_mask(path: str | os.PathLike[str], page: int = 0) -> np.ndarray:
    """The mask in a file, as `mask_values` gives it.

    Args:
        path: PNG, TIFF or another kind that loses nothing.
        page: of a file with several.

    Raises:
        CorruptImage: it cannot be read or decoded, or is in colour.
    """
    try:
        # Given a path, Pillow 13.0 maps the file and misreads a TIFF with an orientation.
        with open(path, "rb") as file, Image.open(file) as image:
            image.seek(page)
            return mask_values(image)
    except Exception as error:
        raise undecodable(str(path), error) from error


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """The mask in the bytes of a file, as `mask_values` gives it.

    Args:
        data: the bytes.
        name: the file's name, for errors.

    Raises:
        CorruptImage: it cannot be decoded, or is in colour.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return mask_values(image)
    except Exception as error:
        raise undecodable(name, error) from error


def mask_values(image: Image.Image) -> np.ndarray:
    """The values of a mask, upright: int32 of shape (height, width).

    They are the grey values of a grey image, the indices into a palette, and 0 and 1 of an image of
    one bit. RGB is accepted where all three channels are the same.

    Raises:
        ValueError: the image is in colour, or of floats.
    """
    if image.format == "JPEG":
        raise ValueError("a mask cannot be a JPEG file, which blurs class values; save it as PNG")
    array = np.asarray(upright(image))
    if array.ndim == 3:
        colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]
        if (colours != colours[..., :1]).any():
            raise ValueError(
                "a mask has one value per pixel, and this image is in colour; save it as grey, or"
                " with a palette"
            )
        array = colours[..., 0]
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(f"a mask has integers, and this image {array.dtype}")
    return array.astype(np.int32)
