"""Image files to arrays."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps

from vitjax.data.errors import CorruptImage

_ORIENTATION = 0x0112  # the EXIF tag
# No transparency, no place for an orientation.
_PLAIN_PNG_PARTS = frozenset(
    (b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"tIME")
)


def decode_image(data: bytes, channels: int, name: str) -> np.ndarray:
    """Decodes an image file, whatever its kind, to the one kind that training wants.

    The EXIF orientation is applied, 16 bits become 8, palettes and CMYK become RGB, and what is
    transparent becomes white.

    Args:
        data: the file's content: PNG, JPEG, WebP or whatever else Pillow reads.
        channels: 3 for RGB or 1 for grey.
        name: what errors call the image.

    Returns:
        uint8 of shape (height, width, channels).

    Raises:
        CorruptImage: it cannot be decoded in full.
    """
    try:
        # OpenCV gives the same pixels in half the time, but reads on where a file is cut short and
        # turns the odd kinds into something else. So it gets the plain, whole ones.
        if _is_plain_png(data, channels):
            array = _decode_with_opencv(data, channels)
            if array is not None:
                return array
        with Image.open(io.BytesIO(data)) as image:
            if _is_plain(image, data, channels):
                array = _decode_with_opencv(data, channels)
                if array is not None:
                    return array
            return _decode_with_pillow(image, channels)
    except Exception as error:
        # Pillow's plugins raise all sorts: OSError, SyntaxError, struct.error, ...
        reason = "it is no image" if not data else str(error) or type(error).__name__
        if "cannot identify" in reason:
            reason = "it is no image of a kind that can be read"
        raise CorruptImage(f"{name}: cannot be decoded: {reason}") from error


def _is_plain_png(data: bytes, channels: int) -> bool:
    """Whether ``data`` is a whole PNG file of 8 bits and nothing that OpenCV and Pillow differ on.

    Reading the names of its parts takes a microsecond, and Pillow's reading of the header more than
    OpenCV's of a small image.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] != (
        b"\x08\x02" if channels == 3 else b"\x08\0"
    ):
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
        whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    else:
        whole = image.format == "PNG" and data.rstrip(b"\0")[-8:-4] == b"IEND"
    return whole and image.getexif().get(_ORIENTATION, 1) == 1


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


def _decode_with_pillow(image: Image.Image, channels: int) -> np.ndarray:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    array = np.array(image.convert("RGB" if channels == 3 else "L"))
    return array if channels == 3 else array[..., None]
