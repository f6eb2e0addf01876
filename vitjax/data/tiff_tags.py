"""What the tags of a TIFF say about its pages and its values, where Pillow does not heed them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    TiffImageFile,
)

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
_REDUCED, _TRANSPARENCY = 1, 4  # bits of the new one
_OLD_REDUCED = 2
_SHORT = 3  # the type of a value of 16 bits
_WHITE_IS_ZERO = 0
# JPEG of two kinds, JPEG 2000, JPEG XR, JPEG XL and WebP, as tag 259 names them.
_LOSSY = (6, 7, 33003, 33004, 33005, 34712, 34892, 34934, 22610, 50001, 50002, 52546)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def full_pages(file: IO[bytes]) -> list[int]:
    """The frames of a TIFF that are images of their own, by number; ``[0]`` of other kinds.

    Reduced images ("overviews") and transparency masks of other pages are not, and Pillow cannot
    read all of these. The frames of other kinds are a film, or a small preview: their first frame
    is the image. The place in ``file`` is kept.

    Raises:
        ValueError: the list of pages is damaged.
    """
    place = file.tell()
    try:
        kinds = list(_page_kinds(file))
    except struct.error as error:
        raise ValueError("its list of pages is cut short") from error
    finally:
        file.seek(place)
    chosen = [number for number, full in enumerate(kinds) if full]
    return chosen or list(range(max(len(kinds), 1)))


def _page_kinds(file: IO[bytes]) -> Iterator[bool]:
    """For each page of a TIFF, whether it is an image of its own."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) > 7 else 0
    if version not in (42, 43):
        return
    big = version == 43
    count_form, offset_form, entry_size = ("Q", "Q", 20) if big else ("H", "I", 12)
    count_size, offset_size = (8, 8) if big else (2, 4)

    def number(data: bytes, form: str) -> int:
        value: int = struct.unpack(f"{order}{form}", data)[0]
        return value

    offset = number(head[8:16] if big else head[4:8], offset_form)
    left = file.seek(0, io.SEEK_END)  # bytes that pages can be made of, for none has another's
    seen = set()
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        count = number(file.read(count_size), count_form)
        left -= count_size + count * entry_size
        if left < 0:
            raise ValueError("its list of pages is longer than the file")
        entries = file.read(count * entry_size)
        kinds = {}
        for place in range(0, count * entry_size, entry_size):
            entry = entries[place : place + entry_size]
            tag, form = struct.unpack(f"{order}HH", entry[:4])
            if tag in (_NEW_SUBFILE_TYPE, _SUBFILE_TYPE):
                start = entry_size - offset_size
                kinds[tag] = (
                    number(entry[start : start + 2], "H")
                    if form == _SHORT
                    else number(entry[start : start + 4], "I")
                )
        offset = number(file.read(offset_size), offset_form)
        reduced = kinds.get(_SUBFILE_TYPE) == _OLD_REDUCED
        yield not (kinds.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _TRANSPARENCY) or reduced)


def is_lossy(image: Image.Image) -> bool:
    """Whether a page is compressed by a method that changes values."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(COMPRESSION) in _LOSSY


def shown_values(image: Image.Image, array: np.ndarray) -> np.ndarray:
    """The values of a grey page of 9 to 16 bits, of which 0 is black."""
    return white_of(image) - array if _inverted(image) else array


def stored_values(image: Image.Image, array: np.ndarray) -> np.ndarray:
    """The values of a page as they are stored, whether 0 is shown black or white.

    Pillow inverts pages of up to 8 bits of which 0 is white. Those of one bit stay as they are
    shown, since fax compression stores a black foreground as 1 and programs that write it invert.
    """
    if _inverted(image) and image.mode == "L":
        return 255 - array
    return array


def white_of(image: Image.Image) -> int:
    """The value of white in a grey page of 9 to 16 bits."""
    if isinstance(image, TiffImageFile):
        bits: int = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]
        return (1 << bits) - 1
    return 65535


def _inverted(image: Image.Image) -> bool:
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    return tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
