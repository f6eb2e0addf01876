"""What is opened as an image: a list of formats, and limits that are checked before decoding.

Every image file and mask file is opened by `opened`, from its head: a file of another format is
never given to a library, and a file that claims more pixels than are read is never decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from typing import IO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from vitjax.core.regular_files import open_regular
from vitjax.data.tiff_tags import SIXTEEN_BITS, full_pages

# The formats that are read, by Pillow's names; docs/folders.md lists them with their suffixes.
# The others have parsers that few people test, and that of EPS starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF")

# The pixels of the largest image that is read, by default: with those of cameras of 102 megapixels,
# and so few that reading a file takes less than a gigabyte.
MAX_PIXELS = 102_000_000
# The memory that reading takes per pixel of usual images. Of others, fewer pixels are read.
_USUAL_BYTES_PER_PIXEL = 6.5
_RESULT = 3  # bytes per pixel: RGB

# A file may have as many bytes beside those of its pixels: text, profiles, the other frames of an
# animation, a film after the image.
_MOST_EXTRA_BYTES = 1 << 30
_LARGE_FILE = 1 << 26  # whose head is read before its content
_MOST_BYTES_PER_PIXEL = 16
# Pillow reads the runs of a BMP in Python, at 10 million pixels per second.
_MOST_PIXELS_OF_RUNS = 1 << 25
# The bytes per pixel of decoders that have the whole image again; JPEG 2000 has them per channel.
_WHOLE = {"WEBP": 12, "JPEG2000": 5, "AVIF": 8, "TGA": 1}
_INTERLACED = 4  # takes time rather than memory: pixels are decoded one by one
_ORIENTATION = 0x0112  # the EXIF tag
_RUNS = (1, 2)  # how a BMP is compressed
_PPM, _COMMENT = re.compile(rb"P[0-7fFyYzZ][\s#]"), re.compile(rb"#[^\r\n]*(?:[\r\n]|$)")
_MOST_PPM_HEAD = 1 << 16  # bytes, comments and all
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_MOST_TILE = 4096  # of the side of a tile in a smaller image
_JPEG2000_SIZE = b"\xff\x4f\xff\x51"  # the start of a codestream, and the marker of its size


def content_of(path: str | os.PathLike[str], max_pixels: int) -> bytes:
    """The bytes of an image file.

    Raises:
        OSError: it cannot be read, or is a folder, FIFO or device.
        ValueError: it has more bytes than an image of its size can have.
        Exceptions of any type: it has so many bytes that its head is read, which is damaged.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGE_FILE:
            with opened(file, max_pixels) as image:
                pages = len(full_pages(file))
                pixels = image.height * image.width * pages
                if size > _MOST_EXTRA_BYTES + _MOST_BYTES_PER_PIXEL * pixels:
                    raise ValueError(
                        f"the file has {size:,} bytes, more than an image of"
                        f" {image.height}x{image.width} pixels can have"
                    )
            file.seek(0)
        return file.read()


@contextlib.contextmanager
def opened(
    file: IO[bytes], max_pixels: int, page: int = 0, result: int = _RESULT
) -> Iterator[Image.Image]:
    """The image in a file of one of `FORMATS`, not decoded.

    Args:
        file: given a path, Pillow 13.0 maps it and misreads a TIFF with an orientation.
        max_pixels: an image with more is an error, and so is one of fewer pixels which takes more
            memory than usual images of so many, or of `MAX_PIXELS`.
        page: of a TIFF with several.
        result: the bytes per pixel of what it becomes.

    Raises:
        ValueError: the image has more pixels, or its head contradicts itself. Other exceptions of
            any type: it cannot be read.
    """
    # Pillow's own limit is a setting of the process, which the key is to raise.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and max_pixels > 2 * limit:
        Image.MAX_IMAGE_PIXELS = None
    _check_canvas(file, max_pixels)
    pages = full_pages(file)
    with _opened_by_pillow(file, max_pixels) as image:
        check_pixels(image.height, image.width, max_pixels)
        if pages[page] > 0:
            image.seek(pages[page])
            check_pixels(image.height, image.width, max_pixels)
        _check_claims(image, file)
        _check_memory(image, max_pixels, result)
        yield image


def _opened_by_pillow(file: IO[bytes], max_pixels: int) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        # Pillow's own limit is of pixels too, twice `MAX_IMAGE_PIXELS`.
        (pixels, *_) = re.findall(r"\d+", str(error))
        raise _too_many(f"{int(pixels):,} pixels", max_pixels) from None


def _too_many(size: str, max_pixels: int) -> ValueError:
    return ValueError(
        f"it has {size}, and at most {max_pixels:,} are read; a larger config.data.max_pixels"
        " reads it"
    )


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Raises ValueError if an image has no pixels, or more than ``max_pixels``."""
    if height < 1 or width < 1:
        raise ValueError(f"it has {height}x{width} pixels")
    if height * width > max_pixels:
        raise _too_many(f"{height}x{width} = {height * width:,} pixels", max_pixels)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8: 1 is upright, and 5 to 8 exchange height and width.

    EXIF data that cannot be read says nothing of it.
    """
    if image.format == "PNG":
        image.load()  # which may find that the pixels are damaged
    try:
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    except Exception:  # of any type that Pillow's reader of TIFF raises
        return 1


def _check_memory(image: Image.Image, max_pixels: int, result: int) -> None:
    """Raises ValueError if reading takes more memory than a usual image of most pixels does."""
    each = _bytes_of_pillow(image) + result + _bytes_of_decoder(image)
    pixels = image.height * image.width
    most = int(max(max_pixels, MAX_PIXELS) * _USUAL_BYTES_PER_PIXEL / each)
    if each > _USUAL_BYTES_PER_PIXEL and pixels > most:
        raise ValueError(
            f"it has {image.height}x{image.width} = {pixels:,} pixels, and at most {most:,} are"
            f" read of its kind ({image.format}, {image.mode}), which takes {each:.0f} bytes of"
            " memory per pixel; a larger config.data.max_pixels reads it"
        )


def _bytes_of_pillow(image: Image.Image) -> int:
    """The bytes of a pixel in the image that Pillow decodes."""
    if image.mode in SIXTEEN_BITS:
        return 2
    if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation(image) == 1:
        return 0  # OpenCV decodes it into the result
    return 1 if image.mode in ("1", "L", "P") else 4


def _bytes_of_decoder(image: Image.Image) -> float:
    """The bytes per pixel that a decoder has of its own, of what it decodes as a whole."""
    bands = len(image.getbands())
    if isinstance(image, TiffImageFile):  # a strip, which may be all of it
        bits = image.tag_v2.get(BITSPERSAMPLE, (8,))
        return max(1, sum(bits) / 8 if len(bits) > 1 else bits[0] * bands / 8)
    if isinstance(image, JpegImageFile) and image.info.get("progressive"):
        factors = [(h, v) for _, h, v, _ in image.layer]  # coefficients of two bytes
        high, wide = max(v for _, v in factors), max(h for h, _ in factors)
        return 2 * sum(h * v for h, v in factors) / (high * wide)
    if image.format == "PNG" and image.info.get("interlace"):
        return _INTERLACED
    return _WHOLE.get(image.format or "", 0) * (bands if image.format == "JPEG2000" else 1)


def _check_canvas(file: IO[bytes], max_pixels: int) -> None:
    """Checks what Pillow does when it opens a file, from its first bytes.

    It allocates the canvas of a WebP, and reads the head of a PPM byte by byte, however long.
    """
    place = file.tell()
    head = file.read(30)
    if _PPM.match(head):
        head += file.read(_MOST_PPM_HEAD)
        words = 3 if head[1:2] in b"14" else 4  # with the largest value, unless there are two
        if len(head) > _MOST_PPM_HEAD and len(_COMMENT.sub(b" ", head).split(None, 4)) < words:
            raise ValueError(f"its head is longer than {_MOST_PPM_HEAD:,} bytes")
    file.seek(place)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 30:
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        check_pixels(height, width, max_pixels)


def _check_claims(image: Image.Image, file: IO[bytes]) -> None:
    """Checks what a decoder would allocate or do beyond the pixels of the image.

    Raises:
        ValueError: it is far more than the image needs.
    """
    size = image.height, image.width
    in_runs = image.format in ("BMP", "DIB") and image.info.get("compression") in _RUNS
    if isinstance(image, TiffImageFile):
        _check_tiles(image)
    elif image.format == "JPEG2000":
        _check_codestream(file, size)
    elif in_runs and size[0] * size[1] > _MOST_PIXELS_OF_RUNS:
        raise ValueError(
            f"it has {size[0]}x{size[1]} pixels in runs (RLE), of which at most"
            f" {_MOST_PIXELS_OF_RUNS:,} are read; save it as PNG"
        )


def _check_tiles(image: TiffImageFile) -> None:
    """Checks that the tiles of a TIFF are not far larger than its image."""
    width, height = (image.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    for tile, side in ((height, image.height), (width, image.width)):
        if not isinstance(tile, int) or tile > max(2 * side, _MOST_TILE):
            raise ValueError(
                f"its tiles are {height}x{width}, and the image has {image.height}x{image.width}"
                " pixels"
            )


def _check_codestream(file: IO[bytes], size: tuple[int, int]) -> None:
    """Checks that the data of a JPEG 2000 file is of the size that its head says."""
    file.seek(0)
    data = file.read()
    at = data.find(_JPEG2000_SIZE)
    try:
        right, down, left, up = struct.unpack_from(">4I", data, at + 8)
    except struct.error as error:
        raise ValueError("its data has no size") from error
    if at < 0 or (down - up, right - left) != size:
        raise ValueError(
            f"its data is of {down - up}x{right - left} pixels, and its head says"
            f" {size[0]}x{size[1]}"
        )
