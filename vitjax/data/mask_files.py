"""Masks out of image files: 1 to 16 bits, palettes, colours, the pages of a TIFF."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
from PIL import Image

from vitjax.core.regular_files import open_regular
from vitjax.core.text import printable
from vitjax.data.damage import webp_parts
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.image_files import (
    Measured,
    load_checked,
    measure,
    stored_view,
    strips,
    undecodable,
)
from vitjax.data.image_formats import MAX_PIXELS, content_of, opened, orientation
from vitjax.data.tiff_tags import is_lossy, stored_values

_LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")


class ColouredMask(CorruptImage):
    """A mask in colour where values are expected."""


def read_mask(
    path: str | os.PathLike[str],
    page: int = 0,
    *,
    colours: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The mask in a file, as `mask_values` gives it.

    Args:
        path: PNG, TIFF, GIF, BMP, WebP without loss or another kind that loses nothing.
        page: of a TIFF with several.
        colours: whether to read colours instead of values.
        max_pixels: a mask with more is an error.

    Raises:
        CorruptImage: it cannot be read or decoded, or is damaged; `ColouredMask` if it is in
            colour, and ``colours`` is False.
        DataError: it was compressed with loss.
    """
    try:
        data = content_of(path, max_pixels)
    except Exception as error:  # of any type, see `undecodable`
        raise undecodable(str(path), error) from error
    return decode_mask(data, str(path), page, colours=colours, max_pixels=max_pixels)


def decode_mask(
    data: bytes,
    name: str,
    page: int = 0,
    *,
    colours: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The mask in the bytes of a file, as `mask_values` gives it.

    Args:
        data: the bytes.
        name: the file's name, for errors.
        page: as of `read_mask`, as are the others.
        colours: see there.
        max_pixels: see there.

    Raises:
        CorruptImage, ColouredMask, DataError: as of `read_mask`.
    """
    try:
        with opened(io.BytesIO(data), max_pixels, page, np.dtype(np.int32).itemsize) as image:
            _check_lossless(image, data)
            load_checked(image, data)
            return mask_colours(image) if colours else mask_values(image)
    except _Lossy as error:
        raise DataError(f"{printable(name)}: {error}") from error
    except _InColour as error:
        raise ColouredMask(f"{printable(name)}: cannot be decoded: {error}") from error
    except Exception as error:
        raise undecodable(name, error) from error


def measure_mask(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Measured:
    """What the head of a mask file says.

    Raises:
        CorruptImage: it is not an image, or too large.
        DataError: it was compressed with loss.
    """
    measured = measure(path, max_pixels)
    try:
        with open_regular(path) as file, opened(file, max_pixels) as image:
            data = content_of(path, max_pixels) if image.format == "WEBP" else b""
            _check_lossless(image, data)
    except _Lossy as error:
        raise DataError(f"{printable(path)}: {error}") from error
    except Exception as error:
        raise undecodable(str(path), error) from error
    return measured


def mask_values(image: Image.Image) -> np.ndarray:
    """The values of a mask, upright: int32 of shape (height, width).

    They are the grey values of a grey image, the indices into a palette, and 0 (black) and 1 of an
    image of one bit. RGB is accepted where all three channels are the same.

    Raises:
        ValueError: the image is in colour, or of floats.
    """
    return _in_strips(image, _strip_values)


def _strip_values(image: Image.Image, strip: Image.Image) -> np.ndarray:
    array = stored_values(image, np.asarray(strip))
    if array.ndim == 3:
        colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]
        if (colours != colours[..., :1]).any():
            raise _InColour(
                "a mask has one value per pixel, and this image is in colour; give the colours of"
                ' the classes, as classes={"road": (128, 64, 128), ...}, or save it as grey, or'
                " with a palette"
            )
        array = colours[..., 0]
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(f"a mask has integers, and this image {array.dtype}")
    return array


def mask_colours(image: Image.Image) -> np.ndarray:
    """The colours of a mask, upright, each as one number: int32 of shape (height, width).

    See `packed`. Palettes stand for their colours; what is transparent counts as if it were not.
    """
    if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX"):
        raise ValueError(f"its pixels are of the kind {image.mode}, not colours of 8 bits each")
    return _in_strips(image, _strip_colours)


def _strip_colours(image: Image.Image, strip: Image.Image) -> np.ndarray:
    colours = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    packed_bytes = np.zeros((*colours.shape[:2], 4), np.uint8)
    for byte in range(3):  # one by one, which is five times faster; the last byte is the upper one
        packed_bytes[..., 2 - byte] = colours[..., byte]
    return packed_bytes.view("<i4")[..., 0]


def _in_strips(
    image: Image.Image, values: Callable[[Image.Image, Image.Image], np.ndarray]
) -> np.ndarray:
    """An image upright, of which ``values`` are the values of a strip: int32, (height, width)."""
    turned = orientation(image)
    size = image.size if turned >= 5 else image.size[::-1]
    mask = np.empty(size, np.int32)
    stored = stored_view(mask, turned)
    for top, strip in strips(image):
        stored[top : top + strip.height] = values(image, strip)
    return mask


def packed(colour: tuple[int, int, int]) -> int:
    """The number that stands for a colour: red in the upper of three bytes, then green and blue."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpacked(number: int) -> tuple[int, int, int]:
    """The colour of a number of `packed`."""
    return number >> 16, number >> 8 & 255, number & 255


def palette_of(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS
) -> dict[int, tuple[int, int, int]]:
    """The colours of the palette in a file, by index; empty if it has none.

    Raises:
        CorruptImage: it is not an image, or too large.
    """
    try:
        with open_regular(path) as file, opened(file, max_pixels) as image:
            flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
    except Exception as error:
        raise undecodable(str(path), error) from error
    return {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(flat) // 3)}


class _InColour(ValueError):
    """As `ColouredMask`, before the name of the file is known."""


class _Lossy(ValueError):
    """A mask was compressed with loss."""


def _check_lossless(image: Image.Image, data: bytes) -> None:
    kind = image.format or ""
    lossy = kind in _LOSSY or is_lossy(image) or (kind == "WEBP" and not _keeps_values(data))
    if lossy:
        what = "TIFF file compressed with loss, as JPEG is" if kind == "TIFF" else f"{kind} file"
        raise _Lossy(f"a mask cannot be a {what}, which blurs class values; save it as PNG")


def _keeps_values(data: bytes) -> bool:
    """Whether the pixels of a WebP file are in a part of the lossless kind."""
    kinds = [kind for kind, _ in webp_parts(data)]
    return b"VP8L" in kinds and b"VP8 " not in kinds
