"""Files of JSON that anyone may have written: read within limits, or refused in words."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vitjax.core.errors import UserError
from vitjax.core.regular_files import open_regular
from vitjax.core.text import printable

# JSON takes up to fifty times its size in memory.
MOST_BYTES = 2**23
# Deeper values would end the recursion of those who walk through them.
MOST_LEVELS = 64


class DamagedFileError(UserError):
    """A file does not hold what it should; the message names it."""


def open_file(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> BinaryIO:
    """A file opened for reading, which is neither a folder nor a pipe and not too large.

    Raises:
        FileNotFoundError: nothing has that name.
        DamagedFileError: it is something else, a link to nothing, larger, or cannot be opened.
    """
    try:
        return open_regular(path, most_bytes)
    except FileNotFoundError:
        if os.path.islink(path):
            raise DamagedFileError(
                f"{printable(path)}: is a link to a file that does not exist"
            ) from None
        raise
    except OSError as error:
        reason = error.strerror or error
        raise DamagedFileError(f"{printable(path)}: cannot be read ({reason})") from error


def read_object(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: nothing has that name.
        DamagedFileError: it is not a file of UTF-8 with one JSON object, in which no key occurs
            twice and no value is deeper than `MOST_LEVELS`; or it is larger.
    """
    try:
        with open_file(path, most_bytes) as file:
            found = json.loads(file.read().decode(), object_pairs_hook=_unique)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        if not _shallow(found):
            raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    except RecursionError:
        reason = f"it is nested more than {MOST_LEVELS} levels deep"
        raise DamagedFileError(f"{Path(path)}: the file is damaged ({reason})") from None
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 at byte {error.start}"
        raise DamagedFileError(f"{Path(path)}: the file is damaged ({reason})") from error
    except DamagedFileError:
        raise
    except ValueError as error:
        raise DamagedFileError(f"{Path(path)}: the file is damaged ({error})") from error
    return found


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _shallow(value: Any) -> bool:
    """Whether ``value`` is nested at most `MOST_LEVELS` levels deep."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]
        if not level:
            return True
    return False
