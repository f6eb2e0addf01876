"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import numbers
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitjax.core.paths import expanded


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path to write to, which replaces ``path`` if nothing fails and is removed otherwise.

    ``path`` keeps its old content until the new file is complete and on the disk, whatever the
    number of processes that write there. Its folder is created if it does not exist.
    """
    path = Path(expanded(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with naming(path):
            yield unfinished
            replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds ``path`` to the errors of writing, of which those of a full disk name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def replace(unfinished: Path, path: Path) -> None:
    """Moves a complete file to ``path``, once its content is on the disk."""
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` atomically: a reader sees the old file or the new one."""
    with new_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON, atomically, see `finite`."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def finite(value: Any) -> Any:
    """``value`` as JSON has it: NaN and infinities are None, NumPy's numbers those of Python.

    NumPy's truth values and arrays are not changed.
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return value
