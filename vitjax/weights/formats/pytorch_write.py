"""PyTorch's checkpoint files, written without PyTorch."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.core.text import near_match
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives
from vitjax.weights.formats.pickled import DTYPES, STORAGES

_STORAGES = {DTYPES[dtype]: name for name, dtype in STORAGES.items()}


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> None:
    """Writes ``arrays`` as a state dict in the format of PyTorch since 1.6.

    ``torch.load`` reads it with ``weights_only=True``, and with ``mmap=True``.

    Args:
        path: of the file.
        arrays: contiguous, in native byte order, of dtypes that every version of PyTorch has.
        metadata: stored as the archive's comment, which PyTorch ignores.

    Raises:
        WeightsError: PyTorch lacks the dtype of an array.
    """
    for name, array in arrays.items():
        if array.dtype not in _STORAGES:
            raise WeightsError(
                f"{name} is of dtype {array.dtype}, which PyTorch's files do not have"
                f"{near_match(str(array.dtype), map(str, _STORAGES))}"
            )
    records: dict[str, Any] = {"data.pkl": _pickled(arrays), "byteorder": sys.byteorder.encode()}
    records |= {f"data/{key}": array for key, array in enumerate(arrays.values())}
    records["version"] = b"3\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = archives.comment(metadata)
        for name, content in records.items():
            if isinstance(content, np.ndarray):
                content = content.reshape(-1).view(np.uint8).data
            info = archives.record(archive, f"archive/{name}")
            with archive.open(info, "w", force_zip64=True) as file:
                file.write(content)


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A pickle of an OrderedDict of tensors whose numbers are in other records.

    It is written by instruction, since the pickle module can only name functions that exist.
    """
    empty = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    program = [pickle.PROTO, b"\x02", empty, pickle.MARK]
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        storage = [
            *(pickle.MARK, _plain("storage"), _global("torch", _STORAGES[array.dtype])),
            *(_plain(str(key)), _plain("cpu"), _plain(array.size), pickle.TUPLE, pickle.BINPERSID),
        ]
        program += [
            *(_plain(name), _global("torch._utils", "_rebuild_tensor_v2"), pickle.MARK, *storage),
            *(_plain(0), _plain(array.shape), _plain(strides), _plain(False), empty),
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    return b"".join([*program, pickle.SETITEMS, pickle.STOP])


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _plain(value: Any) -> bytes:
    """The instructions for a plain value: its pickle without header and end."""
    return pickle.dumps(value, protocol=2)[2:-1]
