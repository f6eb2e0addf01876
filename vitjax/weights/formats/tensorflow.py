"""TensorFlow's checkpoints (tensor bundles), read without TensorFlow.

A checkpoint ``model`` is a table ``model.index``, from names to places, and the numbers in
``model.data-00000-of-00001`` and so on. The table is one of LevelDB: blocks of sorted keys, each of
which is stored as what it adds to the key before it. Values are messages of protocol buffers.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage, limits
from vitjax.weights.formats.limits import Budget

# The last bytes of a table.
MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
# TensorFlow's numbers of dtypes; strings (7) and the like are no weights.
_DTYPES: dict[int, np.dtype] = {
    number: np.dtype(dtype)
    for number, dtype in (
        *((1, "float32"), (2, "float64"), (3, "int32"), (4, "uint8"), (5, "int16"), (6, "int8")),
        *((9, "int64"), (10, "bool"), (17, "uint16"), (19, "float16"), (22, "uint32")),
        *((23, "uint64"), (14, ml_dtypes.bfloat16)),
    )
}
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
# A key is stored as what it adds to the one before it, and TensorFlow stores every 16th as a whole.
_MOST_SHARED = 64
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")


def index_of(path: Path) -> Path | None:
    """The table of the checkpoint that ``path`` names; None if it names none.

    A checkpoint is named by its table, by one of its files of numbers, by what both names begin
    with, or by the folder of a SavedModel.
    """
    if path.is_dir():
        table = path / "variables" / "variables.index"
    elif path.name.endswith(".index"):
        table = path
    elif _DATA.search(path.name):
        table = path.with_name(_DATA.sub(".index", path.name))
    else:
        table = path.with_name(f"{path.name}.index")
    return table if table.is_file() else None


def read(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of the checkpoint whose table is at ``path``.

    Names end before ``:0``, and are those of variables, or of paths through objects.

    Raises:
        WeightsError: the table is damaged, or numbers are missing.
    """
    limits.check_parsed(path.stat().st_size, "a table of a checkpoint of TensorFlow")
    table = path.read_bytes()
    with damage.blamed("is cut short or damaged: its table cannot be read"):
        listed = list(_entries(table))
        entries = dict(listed)
        if len(entries) < len(listed):
            raise ValueError("it has a name several times")
    if b"" not in entries:
        raise WeightsError(
            "is a table without a header, as of a checkpoint of TensorFlow before 1.0: read it with"
            " tf.train.load_checkpoint and write its arrays with numpy.savez"
        )
    header = _message(entries.pop(b""))
    shards, arrays = _number(header, 1, 1), dict[str, np.ndarray]()
    read_of: dict[Path, int] = {}
    if _number(header, 2, 0):
        raise WeightsError("is of a big-endian machine, which is not read")
    for key, value in entries.items():
        name = budget.name(key.decode("utf-8", "replace").removesuffix(_OBJECT))
        fields = _message(value)
        if 7 in fields:
            raise WeightsError(f"{name} is stored in slices (a partitioned variable)")
        dtype = _DTYPES.get(_number(fields, 1, 0))
        if dtype is None:
            continue
        arrays[name] = _array(path, name, fields, dtype, shards, read_of, budget)
    return arrays


def _array(
    path: Path,
    name: str,
    fields: dict[int, list[int | bytes]],
    dtype: np.dtype,
    shards: int,
    read_of: dict[Path, int],
    budget: Budget,
) -> np.ndarray:
    """One array; the bytes that it takes are added to ``read_of`` its file of numbers."""
    (shape_message,) = [*fields.get(2, []), b""][:1]
    dims = _message(shape_message).get(2, []) if isinstance(shape_message, bytes) else []
    shape = tuple(_number(_message(dim), 1, 0) for dim in dims if isinstance(dim, bytes))
    shard, offset, size = (_number(fields, key, 0) for key in (3, 4, 5))
    data = path.with_name(f"{path.name.removesuffix('.index')}.data-{shard:05d}-of-{shards:05d}")
    if not data.is_file():
        raise WeightsError(f"is the table of a checkpoint; its numbers are missing: {data.name}")
    budget.array(name, shape, dtype.itemsize)
    if math.prod(shape) * dtype.itemsize != size:
        raise WeightsError(f"is damaged: {name} of shape {shape} and {dtype} has {size:,} bytes")
    if offset + size > data.stat().st_size:
        raise WeightsError(
            f"is incomplete: {data.name} has {data.stat().st_size:,} bytes, but {name} ends at byte"
            f" {offset + size:,}"
        )
    # Many entries of one place would fill the memory.
    read_of[data] = read_of.get(data, 0) + size
    if read_of[data] > data.stat().st_size:
        raise WeightsError(f"is damaged: several arrays have the same bytes of {data.name}: {name}")
    with data.open("rb") as file:
        file.seek(offset)
        content = np.frombuffer(file.read(size), dtype.newbyteorder("<"))
    return content.reshape(shape).astype(dtype)


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    if len(table) < _FOOTER or not table.endswith(MAGIC):
        raise ValueError("it has no end of a table")
    footer = table[-_FOOTER:]
    _, place = _handle(footer, 0)
    handle, _ = _handle(footer, place)
    blocks, keys = 0, 0
    for _, value in _block(table, handle):
        inner = _handle(value, 0)[0]
        blocks += inner[1]
        if blocks > len(table):
            raise ValueError("its blocks overlap")
        for key, entry in _block(table, inner):
            keys += len(key)
            if keys > _MOST_SHARED * len(table):
                raise ValueError("its names are far longer than it is")
            yield key, entry


def _block(table: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + 5 > len(table):
        raise ValueError(f"a block ends at byte {offset + size + 5:,} of {len(table):,}")
    if table[offset + size]:
        raise ValueError("its blocks are compressed")
    block = table[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = size - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + added + length > end:
            raise ValueError("an entry goes beyond its block")
        key = key[:shared] + block[place : place + added]
        place += added + length
        yield key, block[place - length : place]


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the place after it."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        found |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return found, place
    raise ValueError("a number is too long")


def _message(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message of protocol buffers, by number."""
    found: dict[int, list[int | bytes]] = {}
    place = 0
    with damage.blamed("is damaged: an entry cannot be read"):
        while place < len(data):
            tag, place = _varint(data, place)
            kind = tag & 7
            if kind == 0:
                value, place = _varint(data, place)
                found.setdefault(tag >> 3, []).append(value)
                continue
            length = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                length, place = _varint(data, place)
            if length is None or place + length > len(data):
                raise ValueError("a field goes beyond its message")
            found.setdefault(tag >> 3, []).append(data[place : place + length])
            place += length
    return found


def _number(fields: dict[int, list[int | bytes]], key: int, default: int) -> int:
    values = [value for value in fields.get(key, []) if isinstance(value, int)]
    return values[-1] if values else default
