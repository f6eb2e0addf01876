"""Flax's files (``.msgpack``), as `flax.serialization.to_bytes` writes them.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np

from vitjax.weights.errors import WeightsError


def begins(begin: bytes) -> bool:
    """Whether a file with these first bytes is a map of msgpack whose first key is a text."""
    if len(begin) < 2:
        return False
    places = {0xDE: 3, 0xDF: 5}
    place = 1 if 0x81 <= begin[0] <= 0x8F else places.get(begin[0])
    if place is None or len(begin) <= place:
        return False
    return 0xA1 <= begin[place] <= 0xBF or begin[place] == 0xD9


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file at ``path``, by their paths in its tree: ``params/head/kernel``.

    Raises:
        WeightsError: the file is damaged.
    """
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
    except Exception as error:
        # A damaged file can raise any exception.
        raise WeightsError(
            f"is cut short or damaged: it begins as a file of Flax (msgpack), but cannot be read"
            f" ({type(error).__name__}: {error})"
        ) from error
    arrays: dict[str, np.ndarray] = {}
    _collect(tree, "", arrays)
    return arrays


def _collect(tree: Any, where: str, arrays: dict[str, np.ndarray]) -> None:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            _collect(value, f"{where}/{key}" if where else str(key), arrays)
    elif isinstance(tree, np.ndarray):
        arrays[where] = tree
