"""Writing of masks, images and probabilities; a file is complete or does not exist."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from vitjax.core.atomic import new_file

_SMALL = 64  # pixels of a side up to which an image is written without loss


def write_mask(
    path: str | os.PathLike[str], mask: np.ndarray, palette: np.ndarray, values: Sequence[int]
) -> None:
    """Writes classes as a PNG of ``values`` that is shown in colours; `read_mask` reads it.

    Args:
        path: the file.
        mask: class indices, (height, width).
        palette: colour of each class, (classes, 3) uint8.
        values: what stands for each class in the file, 0 to 65535; if one is above 255, the PNG is
            grey and has 16 bits.
    """
    kind = np.uint16 if max(values) > 255 else np.uint8
    written = np.asarray(values, kind)[mask]
    if kind == np.uint16:
        image = Image.fromarray(written)
    else:
        colors = np.zeros((max(values) + 1, 3), np.uint8)
        colors[np.asarray(values)] = palette
        image = Image.frombuffer("P", mask.shape[::-1], written, "raw", "P", 0, 1)
        image.putpalette(colors.tobytes())
    with new_file(path) as unfinished:
        image.save(unfinished, format="PNG")


def write_image(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Writes (height, width, 3) uint8 as a PNG."""
    with new_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG")


def encoded(pixels: np.ndarray, largest: int, *, exact: bool = False) -> tuple[str, bytes]:
    """An image as the bytes of a small file.

    Args:
        pixels: uint8, (height, width) or (height, width, 3).
        largest: a longer side is reduced to this number of pixels.
        exact: whether each pixel keeps its value, as in masks; small images do so anyway.

    Returns:
        The media type, such as ``"image/png"``, and the bytes.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > largest:
        way = Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS
        factor = largest / max(image.size)
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height), way)
    file = io.BytesIO()
    if exact or max(image.size) <= _SMALL:
        image.save(file, format="PNG", optimize=True)
        return "image/png", file.getvalue()
    image.save(file, format="JPEG", quality=82, optimize=True)
    return "image/jpeg", file.getvalue()


@contextlib.contextmanager
def probability_file(
    path: str | os.PathLike[str], shape: tuple[int, int, int]
) -> Iterator[Callable[[np.ndarray], object]]:
    """Writes an npz of ``probabilities`` row by row.

    Args:
        path: the file.
        shape: (height, width, classes).

    Yields:
        A function that takes the next rows, (rows, width, classes).
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with (
        new_file(path) as unfinished,
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("probabilities.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        yield lambda rows: member.write(np.ascontiguousarray(rows, "<f4").data.cast("B"))
