"""Image files to arrays: one way to read them, and one rule for their orientation.

The EXIF orientation is applied wherever an image or a mask is read or measured. Files that are
damaged are refused, whichever library decodes them.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from vitjax.core.regular_files import open_regular
from vitjax.core.text import printable
from vitjax.data.damage import PNG, check_png, check_webp
from vitjax.data.errors import CorruptImage
from vitjax.data.image_formats import (
    MAX_PIXELS,
    check_pixels,
    content_of,
    opened,
    orientation,
)
from vitjax.data.jpeg_structure import check_jpeg
from vitjax.data.tiff_tags import SIXTEEN_BITS, full_pages, shown_values, white_of

# No transparency, no place for an orientation.
_PLAIN_PNG_PARTS = frozenset(
    (b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"tIME")
)
_PNG_START = PNG + b"\0\0\0\x0dIHDR"
_PNG_HEAD_BYTES = 25  # of the part IHDR
_PNG_PARTS_WITH_EXIF = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt"))
_JPEG = ("JPEG", "MPO")
_PIXELS_AT_ONCE = 1 << 20  # of the conversion of a large image


class Measured(NamedTuple):
    """What the head of an image file says.

    Attributes:
        pages: its number of images.
        size: (height, width) of the first one, upright.
        sixteen_bits: whether it is grey, of 9 to 16 bits.
        orientation: as its EXIF data says, 1 to 8; 1 if it says nothing.
    """

    pages: int
    size: tuple[int, int]
    sixteen_bits: bool
    orientation: int


def transform_in_the_calling_thread() -> None:
    """Makes OpenCV use no threads of its own, in all of this process.

    The loader transforms one image per thread or worker process, and OpenCV's threads would compete
    with those for the cores.
    """
    cv2.setNumThreads(0)


def read_image(
    path: str | os.PathLike[str],
    channels: int,
    page: int = 0,
    *,
    sixteen_bits: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The image in a file.

    Args:
        path: of a format in `vitjax.data.image_formats.FORMATS`.
        channels: 3 for RGB or 1 for grey.
        page: of a TIFF with several, from 0.
        sixteen_bits: whether grey files of 9 to 16 bits become float32, white being 1; otherwise
            the upper 8 bits are read.
        max_pixels: an image with more is an error.

    Returns:
        (height, width, channels), uint8 or float32.

    Raises:
        CorruptImage: the file cannot be read, is damaged, has more pixels than it may, or pixels of
            32 bits, whose white is unknown.
    """
    try:
        data = content_of(path, max_pixels)
    except Exception as error:  # of any type, see `undecodable`
        raise undecodable(str(path), error) from error
    return decode_image(
        data, channels, str(path), page, sixteen_bits=sixteen_bits, max_pixels=max_pixels
    )


def measure(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Measured:
    """What the head of an image file says.

    Raises:
        CorruptImage: it is not an image, or has more than ``max_pixels`` pixels.
    """
    try:
        with open_regular(path) as file:
            return measure_opened(file, str(path), max_pixels)
    except OSError as error:
        raise undecodable(str(path), error) from error


def pages_of(path: str | os.PathLike[str]) -> int:
    """The number of images in a file, of any size.

    Raises:
        CorruptImage: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return len(full_pages(file))
    except Exception as error:
        raise undecodable(str(path), error) from error


def measure_opened(file: IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Measured:
    """`measure` of an opened file that errors call ``name``."""
    try:
        with opened(file, max_pixels) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size may be upright already
                width, height = (int(image.tag_v2[tag]) for tag in (IMAGEWIDTH, IMAGELENGTH))
            # Pillow decodes a complete PNG to look for an orientation after its pixels.
            turned = orientation(image) if image.format != "PNG" or _may_have_exif(file) else 1
            size = (width, height) if turned >= 5 else (height, width)
            return Measured(len(full_pages(file)), size, image.mode in SIXTEEN_BITS, turned)
    except Exception as error:  # of any type, see `undecodable`
        raise undecodable(name, error) from error


def turned_as(array: np.ndarray, orientation: int) -> np.ndarray:
    """``array``, (height, width, ...), as an EXIF orientation, 1 to 8, says it is to be seen."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(array[rows, columns])


def undecodable(name: str, error: Exception) -> CorruptImage:
    """The error for an image called ``name`` whose reading raised ``error``."""
    name = printable(name)
    if isinstance(error, OSError) and error.strerror:
        return CorruptImage(f"{name}: cannot be read: {error.strerror}")
    # Pillow's plugins raise OSError, SyntaxError, struct.error and others.
    reason = " ".join(str(error).split()) or type(error).__name__
    if "cannot identify" in reason:
        reason = "it is not an image of a kind that can be read"
    return CorruptImage(f"{name}: cannot be decoded: {reason}")


def decode_image(
    data: bytes,
    channels: int,
    name: str,
    page: int = 0,
    *,
    sixteen_bits: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decodes the content of an image file.

    The EXIF orientation is applied, palettes and CMYK become RGB, and transparent pixels become
    white.

    Args:
        data: the content, of a format in `vitjax.data.image_formats.FORMATS`.
        channels: 3 for RGB or 1 for grey.
        name: what errors call the image.
        page: as of `read_image`, as are the others.
        sixteen_bits: see there.
        max_pixels: see there.

    Returns:
        uint8 or float32 of shape (height, width, channels).

    Raises:
        CorruptImage: it cannot be decoded in full.
    """
    try:
        # OpenCV gives the same pixels in half the time, but turns the odd kinds into something
        # else. So it gets the plain ones.
        if _is_plain_png(data, channels):
            check_pixels(*_png_size(data), max_pixels)
            array = _decode_with_opencv(data, channels)
            if array is not None:
                return array
        result = channels * (4 if sixteen_bits else 1)
        with opened(io.BytesIO(data), max_pixels, page, result) as image:
            return _decode_opened(image, data, channels, sixteen_bits)
    except Exception as error:
        if not data:
            raise CorruptImage(f"{printable(name)}: cannot be decoded: it is empty") from error
        raise undecodable(name, error) from error


def load_checked(image: Image.Image, data: bytes) -> None:
    """Decodes an opened image, whose file content is ``data``, with Pillow.

    Raises:
        ValueError: the file is damaged. Other exceptions of any type: it cannot be decoded.
    """
    jpeg = check_jpeg(data) if image.format in _JPEG else None
    image.load()
    if jpeg is not None:
        jpeg.check_end(lambda top, end: np.asarray(image.crop((0, top, image.width, end))))
    elif image.format == "PNG":
        bottom = image.crop((0, image.height - 1, image.width, image.height))
        check_png(data, np.asarray(bottom))
    elif image.format == "WEBP":
        check_webp(data)


def _decode_opened(
    image: Image.Image, data: bytes, channels: int, sixteen_bits: bool
) -> np.ndarray:
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise ValueError(
            f"its pixels are {kind} of 32 bits, whose white is unknown; save it with 8 or 16 bits"
        )
    if _is_plain(image, channels):
        jpeg = check_jpeg(data) if image.format == "JPEG" else None
        # OpenCV writes of gaps to stderr, without the name of the file.
        gaps = jpeg is not None and jpeg.gaps
        array = None if gaps else _decode_with_opencv(data, channels)
        if array is not None:
            if jpeg is not None:
                jpeg.check_end(lambda top, end: array[top:end])
            return array
    load_checked(image, data)
    return converted(image, channels, sixteen_bits)


def converted(image: Image.Image, channels: int, sixteen_bits: bool) -> np.ndarray:
    """A decoded image as the array that `decode_image` gives."""
    deep = image.mode in SIXTEEN_BITS
    turned = orientation(image)
    size = image.size if turned >= 5 else image.size[::-1]
    array = np.empty((*size, channels), np.float32 if deep and sixteen_bits else np.uint8)
    stored = stored_view(array, turned)
    for top, strip in strips(image):
        if deep:
            values = shown_values(image, np.asarray(strip))[..., None]
            stored[top : top + strip.height] = _scaled(values, white_of(image), array.dtype)
        else:
            stored[top : top + strip.height] = _opaque(strip, channels)
    return array


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The rows of a decoded image, some at once, and which is the first of them.

    A large image that is converted as a whole is in memory up to five times.
    """
    rows = max(1, _PIXELS_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def stored_view(array: np.ndarray, orientation: int) -> np.ndarray:
    """The view of ``array`` in which the rows of a file are rows; `turned_as` is the inverse."""
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    turned = array[rows, columns]
    return turned.swapaxes(0, 1) if orientation >= 5 else turned


def _scaled(values: np.ndarray, white: int, dtype: np.dtype) -> np.ndarray:
    """Values of 16 bits as ``dtype``: floats in [0, 1], or the upper 8 of their bits."""
    if dtype == np.float32:
        return values.astype(np.float32) / white
    # Pillow clips 16-bit grey at 255 instead of scaling it.
    return (values.astype(np.uint32) * 256 // (white + 1)).astype(np.uint8)


def _opaque(image: Image.Image, channels: int) -> np.ndarray:
    """The pixels of an image on white, (height, width, channels)."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white_image = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white_image, image)
    array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[..., None]


def _may_have_exif(file: IO[bytes]) -> bool:
    """Whether a PNG has a part that can hold an orientation, before or after its pixels."""
    place = len(PNG)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return False
        if head[4:] in _PNG_PARTS_WITH_EXIF:
            return True
        place += 12 + int.from_bytes(head[:4], "big")


def _is_plain_png(data: bytes, channels: int) -> bool:
    """Whether ``data`` is a complete PNG of 8 bits that OpenCV and Pillow agree on.

    Reading the names of its parts takes a microsecond; Pillow takes longer to read the header than
    OpenCV to read a small image. The checksums of pixels take 3% of the time of decoding: of those
    that are wrong OpenCV writes to stderr, without the name of the file.
    """
    if data[:16] != _PNG_START or data[24:26] != (b"\x08\x02" if channels == 3 else b"\x08\0"):
        return False
    # The head is first and once: another one could claim another size.
    place, view = 8 + _PNG_HEAD_BYTES, memoryview(data)
    while (kind := data[place + 4 : place + 8]) in _PLAIN_PNG_PARTS:
        start, place = place, place + 12 + int.from_bytes(data[place : place + 4])
        if kind == b"IEND":
            return place <= len(data)
        if kind == b"IDAT" and zlib.crc32(view[start + 4 : place - 4]) != int.from_bytes(
            view[place - 4 : place]
        ):
            return False
    return False


def _png_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a PNG."""
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _is_plain(image: Image.Image, channels: int) -> bool:
    """Whether OpenCV and Pillow agree on ``image``.

    A PNG that is not plain has parts of which libpng warns without the name of a file.
    """
    mode = "RGB" if channels == 3 else "L"
    return image.format == "JPEG" and image.mode == mode and orientation(image) == 1


def _decode_with_opencv(data: bytes, channels: int) -> np.ndarray | None:
    try:
        array = cv2.imdecode(
            np.frombuffer(data, np.uint8),
            cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE,
        )
    except cv2.error:  # the image is larger than OpenCV's own limit
        return None
    if array is None:
        return None
    return array if channels == 3 else array[..., None]
