"""Keras' files (``.h5``, ``.weights.h5``, ``.keras``), read with h5py.

Errors do not name the file: `files` adds its name.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import archives, damage, limits
from vitjax.weights.formats.limits import Budget

# The record of a .keras archive with the weights.
WEIGHTS = "model.weights.h5"
MAGIC = b"\x89HDF"
# Models in models are a few groups deep; a file of a few bytes can have any depth.
_DEEPEST = 64
# Keras 3 numbers the layers of a kind in its own files.
_NUMBERED = re.compile(r"(^|/)vars/\d+$")
_UNNAMED = """is a file of Keras 3, which has no names of layers; write it with them:
  import keras
  keras.models.load_model("model.keras").save("model.h5")
For a file of weights alone, build the model and call its load_weights instead of load_model."""


def read(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of the file at ``path`` by their paths in it, such as ``conv1/kernel``.

    In a file of Keras 2 each array has its layer's name twice, of which one is left out, and ``:0``
    after its name. Optimizer state is left out. A ``.keras`` archive is read in the same way; the
    model's configuration in it, which may contain code, is not.

    Raises:
        WeightsError: h5py is not installed, the file is damaged, or its numbers are in other files.
    """
    try:
        import h5py
    except ImportError:
        raise WeightsError(
            'is an HDF5 file (Keras), which needs h5py: pip install "vitjax[keras]"'
        ) from None
    found: dict[str, Any] = {}

    def collect(name: str, item: Any) -> None:
        if name.count("/") > _DEEPEST:
            raise WeightsError(f"refused: it has groups in groups, more than {_DEEPEST} deep")
        # A dataset without a shape is empty.
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub" and item.shape is not None:
            budget.name(name)
            if item.external or item.is_virtual:
                # These may be any files of the person who reads it.
                raise WeightsError(f"refused: the numbers of {name} are in other files")
            # A dataset may have any shape without a number in the file, and is read by chunks.
            plain = _plain(name)
            budget.array(plain, item.shape, item.dtype.itemsize)
            if item.chunks is not None:
                limits.check_growth(budget.size, math.prod(item.chunks) * item.dtype.itemsize)
                budget.chunks(plain, item.shape, item.chunks)
            found[plain] = item

    with (
        _opened(path) as source,
        damage.blamed("is cut short or damaged: h5py cannot read it as HDF5"),
        h5py.File(source, "r") as file,
    ):
        file.visititems(collect)
        arrays = {
            name: np.asarray(item[()], item.dtype.newbyteorder("=")) for name, item in found.items()
        }
    arrays = {name: x for name, x in arrays.items() if not name.startswith("optimizer")}
    if arrays and all(_NUMBERED.search(name) for name in arrays):
        raise WeightsError(_UNNAMED)
    return arrays


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The HDF5 file at ``path``, or in the archive there."""
    if not zipfile.is_zipfile(path):
        yield path
        return
    with archives.opened(path) as archive:
        content = archives.content(archive, WEIGHTS)
    yield io.BytesIO(content)


def _plain(name: str) -> str:
    """``"conv1/kernel"`` for ``"model_weights/conv1/conv1/kernel:0"``."""
    parts = [part for part in name.removesuffix(":0").split("/") if part]
    if parts[:1] == ["model_weights"]:
        del parts[0]
    return "/".join(part for i, part in enumerate(parts) if not i or part != parts[i - 1])
