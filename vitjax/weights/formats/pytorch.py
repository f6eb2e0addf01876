"""PyTorch's checkpoint files, read without PyTorch and without executing any code in them.

A checkpoint is a pickle, see `pickles`. The tensors' numbers are stored beside it: in records of a
zip archive since PyTorch 1.6, one after the other in the file before.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitjax.core.text import shortened
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives, foreign, limits, pickles
from vitjax.weights.formats.limits import Budget
from vitjax.weights.formats.pickled import DTYPES, Tensor

# The number at the start of a file of the old format, as a pickle.
_NUMBER = 0x1950A86A20F9469CFC6C
MAGICS = tuple(pickle.dumps(_NUMBER, protocol) for protocol in range(6))
_VERSION = 1001
# Bytes of the pickles before that of the content: the number, the version and a few of the system.
_HEAD = 1024
# Elements of a tensor that repeats numbers of its storage, in a file of fewer bytes.
_MOST_REPEATED = 2**24

# Reads the numbers of a tensor; the second argument is its name, for errors.
ReadTensor = Callable[[Tensor, str], np.ndarray]


@contextlib.contextmanager
def opened(path: Path, budget: Budget) -> Iterator[tuple[Any, ReadTensor]]:
    """The content of the file at ``path``, and a function that reads a tensor of it.

    Args:
        path: of the file.
        budget: what may be made of it.

    Yields:
        A tree as of `pickles.load`; and the function, which can be called while the file is open.
        Arrays that share a storage share memory, and all are read-only.

    Raises:
        WeightsError: the file is damaged, or asks for anything but tensors and plain values; the
            function raises it if a tensor's numbers are missing.
    """
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        if not zipped:
            yield _read_old(file, budget)
            return
    with archives.opened(path) as archive:
        yield _read_zipped(archive, budget)


def pickle_record(archive: zipfile.ZipFile) -> str | None:
    """The name of the record of ``archive`` with the pickle; None if it has none."""
    names = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    return names[0] if names else None


def _read_zipped(archive: zipfile.ZipFile, budget: Budget) -> tuple[Any, ReadTensor]:
    name = pickle_record(archive)
    assert name is not None, "files looks for it"
    root, names = name.removesuffix("data.pkl"), set(archive.namelist())
    if f"{root}constants.pkl" in names:
        raise WeightsError(foreign.TORCHSCRIPT)
    order = sys.byteorder.encode()
    if f"{root}byteorder" in names:
        order = archives.content(archive, f"{root}byteorder")
    pickled = archives.content(archive, name)
    tree, _ = pickles.load(io.BytesIO(pickled), len(pickled), budget)

    def content(key: str) -> bytes:
        return archives.content(archive, f"{root}data/{key}")

    return tree, _reader(content, order != sys.byteorder.encode(), budget)


def _read_old(file: IO[bytes], budget: Budget) -> tuple[Any, ReadTensor]:
    """Five pickles, then the number of elements and the elements of each storage."""
    size = os.fstat(file.fileno()).st_size
    head = io.BytesIO(file.read(_HEAD))
    magic, version, system = (pickles.load(head, _HEAD, budget)[0] for _ in range(3))
    if not isinstance(system, dict) or magic != _NUMBER or version != _VERSION:
        raise WeightsError("is no known checkpoint of PyTorch")
    file.seek(head.tell())
    tree, storages = pickles.load(file, size, budget)
    keys, _ = pickles.load(file, size, budget)
    little = system.get("little_endian", True) is True
    places = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str | int) or str(key) not in storages:
            raise WeightsError("is damaged: it has numbers of no tensor")
        key = str(key)
        count = int.from_bytes(file.read(8), "little" if little else "big")
        length = count * DTYPES[storages[key]].itemsize
        places[key] = (file.tell(), length)
        if file.tell() + length > size:
            raise WeightsError(
                f"is cut short: it has {size:,} bytes, but the numbers of its tensors end at byte"
                f" {file.tell() + length:,} or later"
            )
        file.seek(length, 1)

    def content(key: str) -> bytes:
        if key not in places:
            raise WeightsError(f"is damaged: the numbers of {key!r} are not in it")
        begin, length = places[key]
        file.seek(begin)
        return file.read(length)

    return tree, _reader(content, little != (sys.byteorder == "little"), budget)


def _reader(content: Callable[[str], bytes], swapped: bool, budget: Budget) -> ReadTensor:
    """A function that makes arrays of tensors; ``content`` returns the bytes of a storage."""
    kept: dict[str, bytes] = {}

    def read(tensor: Tensor, name: str) -> np.ndarray:
        storage, dtype = tensor.storage, DTYPES[tensor.dtype]
        budget.array(name, tensor.shape, dtype.itemsize)
        if storage.key not in kept:
            kept[storage.key] = content(storage.key)
        numbers = kept[storage.key]
        begin = storage.start * DTYPES[storage.dtype].itemsize
        end = begin + storage.length * DTYPES[storage.dtype].itemsize
        wrong = _fault(tensor, end - begin)
        if not 0 <= begin <= end <= len(numbers):
            wrong = "its storage is not in the file"
        if wrong:
            raise WeightsError(
                f"is damaged: {name} of shape {_shown(tensor.shape)} and strides"
                f" {_shown(tensor.strides)} does not fit into {len(numbers):,} bytes ({wrong})"
            )
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, dtype)
        most = max(budget.size, _MOST_REPEATED)
        if (elements := math.prod(tensor.shape)) > max(most, (end - begin) // dtype.itemsize):
            limits.refuse(
                f"{name} of shape {_shown(tensor.shape)} repeats the numbers of"
                f" {end - begin:,} bytes; of {elements:,} elements at most {most:,} are read"
            )
        array: np.ndarray = np.ndarray(
            tensor.shape,
            dtype,
            memoryview(numbers)[begin:end],
            tensor.offset * dtype.itemsize,
            tuple(stride * dtype.itemsize for stride in tensor.strides),
        )
        return array.byteswap() if swapped else array

    return read


def _fault(tensor: Tensor, length: int) -> str:
    """Why a tensor is not in a storage of ``length`` bytes; empty if it is.

    NumPy's own check is of integers that overflow: an address far outside can pass it.
    """
    if len(tensor.shape) != len(tensor.strides):
        return f"{len(tensor.shape)} sides and {len(tensor.strides)} strides"
    if min(tensor.strides, default=0) < 0 or tensor.offset < 0:
        return "a negative stride or offset"
    if 0 in tensor.shape:
        return ""
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    end = (tensor.offset + last + 1) * DTYPES[tensor.dtype].itemsize
    return "it goes beyond them" if end > length else ""


def _shown(numbers: tuple[int, ...]) -> str:
    """A shape in words; a pickle can have integers of any length."""
    return f"({shortened([n if abs(n) < 2**64 else 'a huge number' for n in numbers], 8)})"
