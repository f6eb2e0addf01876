"""Writing of masks, images and probabilities; a file is complete or does not exist."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from vitjax.core.atomic import new_file


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
