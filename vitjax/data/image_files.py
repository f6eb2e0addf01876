"""Image files to arrays: one way to read them, and one rule for their orientation.

The EXIF orientation is applied wherever an image or a mask is read or measured.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from vitjax.data.errors import CorruptImage

# Suffixes of the files that are read as images wherever folders are searched for them.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")

_ORIENTATION = 0x0112  # the EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
# No transparency, no place for an orientation.
_PLAIN_PNG_PARTS = frozenset(
    (b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"tIME")
)
_PNG_PARTS_WITH_EXIF = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt"))


def transform_in_the_calling_thread() -> None:
    """Makes OpenCV use no threads of its own, in all of this process.

    The loader transforms one image per thread or worker process, and OpenCV's threads would compete
    with those for the cores.
    """
    cv2.setNumThreads(0)


def read_image(
    path: str | os.PathLike[str], channels: int, page: int = 0, *, sixteen_bits: bool = False
) -> np.ndarray:
    """The image in a file.

    Args:
        path: PNG, JPEG, TIFF, WebP or another kind that Pillow reads.
        channels: 3 for RGB or 1 for grey.
        page: of a file with several, from 0.
        sixteen_bits: whether grey files of 16 bits become float32, 65535 being 1, and files of 32
            bits, whose white is unknown, an error; otherwise the upper 8 of 16 bits are read.

    Returns:
        (height, width, channels), uint8 or float32.

    Raises:
        CorruptImage: the file cannot be read, or not decoded in full.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CorruptImage(f"{path}: cannot be read: {error.strerror or error}") from error
    if page == 0 and not sixteen_bits:
        return decode_image(data, channels, str(path))
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in ("I", "F"):
                kind = "integers" if image.mode == "I" else "floats"
                raise ValueError(
                    f"its pixels are {kind} of 32 bits, whose white is unknown; save it with 8 or"
                    " 16 bits"
                )
            if page or pages_of(image) > 1 or image.mode in SIXTEEN_BITS:
                image.seek(page)
                return _page(image, channels)
    except Exception as error:  # of any type, see `undecodable`
        raise undecodable(str(path), error) from error
    return decode_image(data, channels, str(path))


def measure(path: str | os.PathLike[str]) -> tuple[int, tuple[int, int], bool]:
    """What the head of an image file says: its pages, (height, width), and whether 16 bits.

    Raises:
        CorruptImage: it is not an image.
    """
    try:
        with open(path, "rb") as file:
            return measure_opened(file, str(path))
    except OSError as error:
        raise undecodable(str(path), error) from error


def measure_opened(file: BinaryIO, name: str) -> tuple[int, tuple[int, int], bool]:
    """`measure` of an opened file that errors call ``name``."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size may be upright already
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
            # Pillow decodes a complete PNG to look for an orientation after its pixels.
            if (image.format != "PNG" or _may_have_exif(file)) and orientation(image) >= 5:
                width, height = height, width
            return pages_of(image), (height, width), image.mode in SIXTEEN_BITS
    except Exception as error:  # of any type, see `undecodable`
        raise undecodable(name, error) from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8: 1 is upright, and 5 to 8 exchange height and width."""
    return int(image.getexif().get(_ORIENTATION, 1))


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says it is to be seen."""
    return ImageOps.exif_transpose(image)


def pages_of(image: Image.Image) -> int:
    """The pages of a TIFF; the frames of other kinds are a film, or a small preview."""
    return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def undecodable(name: str, error: Exception) -> CorruptImage:
    """The error for an image called ``name`` whose reading raised ``error``."""
    if isinstance(error, OSError) and error.strerror:
        return CorruptImage(f"{name}: cannot be read: {error.strerror}")
    # Pillow's plugins raise OSError, SyntaxError, struct.error and others.
    reason = str(error) or type(error).__name__
    if "cannot identify" in reason:
        reason = "it is not an image of a kind that can be read"
    return CorruptImage(f"{name}: cannot be decoded: {reason}")


def decode_image(data: bytes, channels: int, name: str) -> np.ndarray:
    """Decodes the content of an image file.

    The EXIF orientation is applied, 16 bits become 8, palettes and CMYK become RGB, and transparent
    pixels become white.

    Args:
        data: the content: PNG, JPEG, WebP or another kind that Pillow reads.
        channels: 3 for RGB or 1 for grey.
        name: what errors call the image.

    Returns:
        uint8 of shape (height, width, channels).

    Raises:
        CorruptImage: it cannot be decoded in full.
    """
    try:
        # OpenCV gives the same pixels in half the time, but reads on where a file is cut short and
        # turns the odd kinds into something else. So it gets the plain, complete ones.
        if _is_plain_png(data, channels):
            array = _decode_with_opencv(data, channels)
            if array is not None:
                return array
        with Image.open(io.BytesIO(data)) as image:
            if _is_plain(image, data, channels):
                array = _decode_with_opencv(data, channels)
                if array is not None:
                    return array
            return decode_with_pillow(image, channels)
    except Exception as error:
        if not data:
            raise CorruptImage(f"{name}: cannot be decoded: it is empty") from error
        raise undecodable(name, error) from error


def _page(image: Image.Image, channels: int) -> np.ndarray:
    """The page of an opened file that it was set to."""
    if image.mode in SIXTEEN_BITS:
        array = (np.asarray(upright(image)).astype(np.float32) / 65535)[..., None]
        return np.repeat(array, channels, axis=-1) if channels > 1 else array
    array = np.array(upright(image).convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[..., None]


def _may_have_exif(file: BinaryIO) -> bool:
    """Whether a PNG has a part that can hold an orientation, before or after its pixels."""
    place = len(_PNG)
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
    OpenCV to read a small image.
    """
    if data[:8] != _PNG or data[24:26] != (b"\x08\x02" if channels == 3 else b"\x08\0"):
        return False
    place = 8
    while (kind := data[place + 4 : place + 8]) in _PLAIN_PNG_PARTS:
        place += 12 + int.from_bytes(data[place : place + 4])
        if kind == b"IEND":
            return place <= len(data)
    return False


def _is_plain(image: Image.Image, data: bytes, channels: int) -> bool:
    """Whether OpenCV and Pillow agree on ``image``, whose file content is ``data``."""
    if image.mode != ("RGB" if channels == 3 else "L") or "transparency" in image.info:
        return False
    if image.format == "JPEG":
        complete = data.rstrip(b"\0").endswith(b"\xff\xd9")
    else:
        complete = image.format == "PNG" and data.rstrip(b"\0")[-8:-4] == b"IEND"
    return complete and orientation(image) == 1


def _decode_with_opencv(data: bytes, channels: int) -> np.ndarray | None:
    array = cv2.imdecode(
        np.frombuffer(data, np.uint8),
        cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE,
    )
    if array is None:
        return None
    if channels == 3:
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB, dst=array)
    return array[..., None]


def decode_with_pillow(image: Image.Image, channels: int) -> np.ndarray:
    """The pixels of an opened image, as `decode_image` gives them.

    Raises:
        Exception: of any type, see `undecodable`.
    """
    image.load()
    image = upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    array = np.array(image.convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[..., None]
