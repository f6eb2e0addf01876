"""Pictures and masks out of image files: 8 and 16 bits, palettes, the pages of a TIFF."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vitjax.core.atomic import new_file
from vitjax.data.errors import CorruptImage
from vitjax.data.sources.decoding import decode_image

_ORIENTATION = 0x0112  # the EXIF tag
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def measure(path: str | os.PathLike[str]) -> tuple[int, tuple[int, int], bool]:
    """What the head of an image file says: its pages, (height, width), and whether 16 bits.

    Raises:
        CorruptImage: it is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow decodes a whole PNG to look for an orientation behind its pixels.
            told = image.format != "PNG" or "exif" in image.info
            if told and image.getexif().get(_ORIENTATION, 1) >= 5:  # lies on its side
                width, height = height, width
            return _pages(image), (height, width), image.mode in _SIXTEEN_BITS
    except Exception as error:  # Pillow's plugins raise all sorts
        raise _unreadable(path, error) from error


def read_picture(path: str | os.PathLike[str], channels: int, page: int = 0) -> np.ndarray:
    """The image in a file.

    Args:
        path: PNG, TIFF, JPEG or what else Pillow reads.
        channels: 3 for RGB, 1 for grey.
        page: of a file with several.

    Returns:
        (height, width, channels): uint8; of grey files of 16 bits float32, 65535 being 1. (Colour
        of 16 bits comes as 8.)

    Raises:
        CorruptImage: it cannot be read or decoded.
    """
    try:
        with Image.open(path) as image:
            image.seek(page)
            if image.mode in _SIXTEEN_BITS:
                turned = ImageOps.exif_transpose(image)
                array = (np.asarray(turned).astype(np.float32) / 65535)[..., None]
                return np.repeat(array, channels, axis=-1) if channels > 1 else array
            if image.mode in ("I", "F"):
                kind = "whole numbers" if image.mode == "I" else "floats"
                raise ValueError(
                    f"its pixels are {kind} of 32 bits, whose white is unknown; save it with 8 or"
                    " 16 bits"
                )
            if _pages(image) > 1:
                array = np.array(image.convert("RGB" if channels == 3 else "L"))
                return array if channels == 3 else array[..., None]
        return decode_image(Path(path).read_bytes(), channels, str(path))
    except CorruptImage:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _pages(image: Image.Image) -> int:
    """How many pages a TIFF has; the frames of other kinds are a film, or a small preview."""
    return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def read_mask(path: str | os.PathLike[str], page: int = 0) -> np.ndarray:
    """The mask in a file, as `mask_values` gives it.

    Args:
        path: PNG, TIFF or another kind that loses nothing.
        page: of a file with several.

    Raises:
        CorruptImage: it cannot be read or decoded, or is in colour.
    """
    try:
        with Image.open(path) as image:
            image.seek(page)
            return mask_values(image)
    except Exception as error:
        raise _unreadable(path, error) from error


def mask_values(image: Image.Image) -> np.ndarray:
    """The values of a mask: int32 of shape (height, width).

    Grey images give their grey, images with a palette their indices into it, and images of one bit
    0 and 1. RGB is fine where all three channels are the same.

    Raises:
        ValueError: the image is in colour, or of floats.
    """
    if image.format == "JPEG":
        raise ValueError("a mask cannot be a JPEG file, which blurs class values; save it as PNG")
    array = np.asarray(image)
    if array.ndim == 3:
        colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]
        if (colours != colours[..., :1]).any():
            raise ValueError(
                "a mask has one value a pixel, and this image is in colour; save it as grey, or"
                " with a palette"
            )
        array = colours[..., 0]
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(f"a mask has whole numbers, and this image {array.dtype}")
    return array.astype(np.int32)


def _unreadable(path: str | os.PathLike[str], error: Exception) -> CorruptImage:
    if isinstance(error, OSError) and error.strerror:
        return CorruptImage(f"{path}: cannot be read: {error.strerror}")
    reason = str(error) or type(error).__name__
    if "cannot identify" in reason:
        reason = "it is no image of a kind that can be read"
    return CorruptImage(f"{path}: cannot be decoded: {reason}")


def write_mask(
    path: str | os.PathLike[str], mask: np.ndarray, palette: np.ndarray, values: Sequence[int]
) -> None:
    """Writes classes as a PNG of ``values`` that is shown in colours; `read_mask` reads it.

    Args:
        path: the file; it is there whole or not at all.
        mask: class numbers, (height, width).
        palette: the colour of each class, (classes, 3) uint8.
        values: what stands for each class in the file, 0 to 65535; where one is above 255, the PNG
            is a grey one of 16 bits.
    """
    kind = np.uint16 if max(values) > 255 else np.uint8
    written = np.asarray(values, kind)[mask]
    if kind == np.uint16:
        picture = Image.fromarray(written)
    else:
        colors = np.zeros((max(values) + 1, 3), np.uint8)
        colors[np.asarray(values)] = palette
        picture = Image.frombuffer("P", mask.shape[::-1], written, "raw", "P", 0, 1)
        picture.putpalette(colors.tobytes())
    with new_file(path) as unfinished:
        picture.save(unfinished, format="PNG")


def write_picture(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Writes (height, width, 3) uint8 as a PNG; the file is there whole or not at all."""
    with new_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG")


@contextlib.contextmanager
def probability_file(
    path: str | os.PathLike[str], shape: tuple[int, int, int]
) -> Iterator[Callable[[np.ndarray], object]]:
    """Writes an npz of ``probabilities`` row by row; the file is there whole or not at all.

    Args:
        path: the file.
        shape: (height, width, classes).

    Yields:
        What takes the next rows, (rows, width, classes).
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with (
        new_file(path) as unfinished,
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("probabilities.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        yield lambda rows: member.write(np.ascontiguousarray(rows, "<f4").data.cast("B"))
