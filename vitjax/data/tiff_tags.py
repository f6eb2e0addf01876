"""What the tags of a TIFF say about its pages and its values, where Pillow does not heed them."""

from __future__ import annotations

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
_WHITE_IS_ZERO = 0
# JPEG of two kinds, JPEG 2000, JPEG XR, JPEG XL and WebP, as tag 259 names them.
_LOSSY = (6, 7, 33003, 33004, 33005, 34712, 34892, 34934, 22610, 50001, 50002, 52546)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def full_pages(image: Image.Image) -> list[int]:
    """The frames of a TIFF that are images of their own.

    Reduced images ("overviews") and transparency masks of other pages are not. The frames of other
    kinds of file are a film, or a small preview: their first frame is the image.
    """
    count = getattr(image, "n_frames", 1)
    if not isinstance(image, TiffImageFile) or count == 1:
        return [0]
    chosen = []
    for number in range(count):
        image.seek(number)
        kind = int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0))
        reduced = image.tag_v2.get(_SUBFILE_TYPE) == _OLD_REDUCED
        if not kind & (_REDUCED | _TRANSPARENCY) and not reduced:
            chosen.append(number)
    image.seek(0)
    return chosen or list(range(count))


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
