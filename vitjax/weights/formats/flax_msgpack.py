"""Flax's files (``.msgpack``), as `flax.serialization.to_bytes` writes them.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

from vitjax.weights.formats import damage, limits
from vitjax.weights.formats.limits import Budget

# Flax's number of the extension of msgpack that holds an array.
_ARRAY = 1
# The key that marks an array in parts.
_CHUNKED = "__msgpack_chunked_array__"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Flax writes lists as maps; other programs may not.
_LONGEST_LIST = 2**12


def begins(begin: bytes) -> bool:
    """Whether a file with these first bytes is a map of msgpack whose first key is a text."""
    if len(begin) < 2:
        return False
    places = {0xDE: 3, 0xDF: 5}
    place = 1 if 0x81 <= begin[0] <= 0x8F else places.get(begin[0])
    if place is None or len(begin) <= place:
        return False
    return 0xA1 <= begin[place] <= 0xBF or begin[place] == 0xD9


def read(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of the file at ``path``, by their paths in its tree: ``params/head/kernel``.

    Raises:
        WeightsError: the file is damaged.
    """
    with damage.blamed(
        "is cut short or damaged: it begins as a file of Flax (msgpack), but cannot be read"
    ):
        tree = msgpack.unpackb(
            path.read_bytes(),
            ext_hook=_extension,
            raw=False,
            strict_map_key=False,
            # A list allocates all its places before the first entry is there.
            max_array_len=_LONGEST_LIST,
            object_pairs_hook=_map,
        )
    arrays: dict[str, np.ndarray] = {}
    _collect(tree, "", arrays, budget)
    return arrays


def _extension(code: int, data: bytes) -> Any:
    """An array, or None for what has no numbers of a model."""
    if code != _ARRAY:
        return None
    shape, dtype, numbers = msgpack.unpackb(data, raw=True, max_array_len=limits.MOST_AXES)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array with a shape of other things than sizes")
    kind = _BFLOAT16 if dtype == b"bfloat16" else np.dtype(dtype.decode())
    if kind.hasobject:
        raise ValueError("an array of objects")
    return np.frombuffer(numbers, kind).reshape(shape)


def _map(entries: Sequence[tuple[Any, Any]]) -> dict[str | int, Any]:
    """A map whose keys are texts or numbers, each of them once."""
    found: dict[str | int, Any] = {}
    for key, value in entries:
        if not isinstance(key, str | int):
            raise ValueError(f"a key is of type {type(key).__name__}, not a text")
        if key in found:
            raise ValueError(f"a map has the key {key!r} several times")
        found[key] = value
    return found


def _collect(tree: Any, where: str, arrays: dict[str, np.ndarray], budget: Budget) -> None:
    """Adds all arrays in ``tree`` to ``arrays``, by path."""
    if isinstance(tree, dict):
        if _CHUNKED in tree:
            tree = _joined(tree, where)
        else:
            budget.name(where)
            for key, value in tree.items():
                _collect(value, f"{where}/{key}" if where else str(key), arrays, budget)
    if isinstance(tree, np.ndarray):
        budget.array(budget.name(where), tree.shape, tree.dtype.itemsize)
        arrays[where] = tree


def _joined(chunks: dict[str | int, Any], where: str) -> np.ndarray:
    """An array of more bytes than one value of msgpack can have, from its parts."""
    with damage.blamed(f"is damaged: {where} cannot be joined of its parts"):
        shape, parts = (
            [chunks[key][str(place)] for place in range(len(chunks[key]))]
            for key in ("shape", "chunks")
        )
        return np.concatenate(parts).reshape(shape)
