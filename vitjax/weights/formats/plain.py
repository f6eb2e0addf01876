"""Formats that store names and arrays and nothing around them: ``.npz`` and ``.safetensors``.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives, damage, limits
from vitjax.weights.formats.limits import Budget


def read_npz(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of the ``.npz`` at ``path``, by name."""
    arrays = {}
    with archives.opened(path) as archive:
        for record in archive.infolist():
            name = budget.name(record.filename.removesuffix(".npy"))
            with archives.reading(archive, record.filename) as file:
                shape, dtype = _header_of_npy(file)
                if dtype.hasobject:
                    words = f"refused: {record.filename} has pickled objects instead of numbers"
                    raise WeightsError(words)
                if math.prod(shape) * dtype.itemsize != record.file_size - file.tell():
                    raise ValueError(f"its {record.file_size:,} bytes are not of shape {shape}")
                budget.array(name, shape, dtype.itemsize)
                file.seek(0)
                array = np.lib.format.read_array(file, allow_pickle=False)
            # NumPy's format has no name for bfloat16, only its size.
            if array.dtype == np.dtype("V2"):
                array = array.view(ml_dtypes.bfloat16)
            arrays[name] = array
    return arrays


def _header_of_npy(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype that an array in NumPy's format claims to have."""
    version, npy = np.lib.format.read_magic(file), np.lib.format
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    read = readers.get(version)
    if read is None:
        raise ValueError(f"version {version} of NumPy's format, which is not of plain numbers")
    shape, _, dtype = read(file)
    return shape, dtype


def opened_safetensors(path: Path) -> safetensors.safe_open:
    """The ``.safetensors`` at ``path``, open for reading."""
    with open(path, "rb") as file:
        limits.check_parsed(int.from_bytes(file.read(8), "little"), "its header")
    with damage.blamed(
        f"is cut short or damaged: its {path.stat().st_size:,} bytes are not those that its header,"
        " as of a .safetensors, announces"
    ):
        return safetensors.safe_open(path, framework="np")


def read_safetensors(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of the ``.safetensors`` at ``path``, by name."""
    arrays = {}
    with opened_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            budget.name(name)
            # Bytes that overlap, or are not in the file, are refused by the library.
            budget.array(name, file.get_slice(name).get_shape(), 1)
            with damage.blamed(f"{name} cannot be read; NumPy may not have its dtype"):
                arrays[name] = file.get_tensor(name)
    return arrays


def write_npz(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None
) -> None:
    """Writes a ``.npz``, of which every array can be mapped into memory."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = archives.comment(metadata)
        for name, array in arrays.items():
            with archive.open(archives.record(archive, f"{name}.npy"), "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None
) -> None:
    """Writes a ``.safetensors``."""
    path.touch()
    mode = path.stat().st_mode
    safetensors.numpy.save_file(dict(arrays), path, dict(metadata) if metadata else None)
    path.chmod(mode)  # the library lets only the owner read it
