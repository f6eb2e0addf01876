"""Errors of reading and writing files of weights, in words.

This is the only place that turns what libraries raise into a WeightsError: a damaged file can make
zipfile, zlib, NumPy, h5py, msgpack or safetensors raise any exception.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import safetensors

from vitjax.core.text import printable, printable_lines
from vitjax.weights.errors import WeightsError

# A message may quote names from the file, of any length.
_LONGEST = 2000
_LONGEST_REASON = 300


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Adds the name of a file to all errors of reading it, in words that a terminal can show.

    Raises:
        WeightsError: anything went wrong.
    """
    try:
        with blamed("is cut short or damaged"):
            try:
                yield
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else error
                raise WeightsError(f"cannot be read: {reason}") from error
    except WeightsError as error:
        words = printable_lines(_clipped(str(error), _LONGEST))
        raise WeightsError(f"{printable(path)}: {words}") from error


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
    """Adds the name of a file to the errors of writing it.

    Raises:
        WeightsError: the file cannot be written.
    """
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{printable(path)}: cannot be written: {reason}") from error
    except WeightsError as error:
        raise WeightsError(f"{printable(path)}: {error}") from error


@contextlib.contextmanager
def blamed(words: str) -> Iterator[None]:
    """Turns whatever a library raises into a WeightsError that begins with ``words``.

    Raises:
        WeightsError: anything went wrong; one that a reader raised is passed on unchanged.
        OSError: the file does not exist, or may not be read.
    """
    try:
        yield
    except (WeightsError, FileNotFoundError, PermissionError):
        raise
    except RecursionError:
        raise WeightsError(f"{words} (it has lists or dicts in others without end)") from None
    except MemoryError as error:
        raise WeightsError(f"{words} (it asks for more memory than there is)") from error
    except Exception as error:
        reason = printable(_clipped(f"{type(error).__name__}: {error}", _LONGEST_REASON))
        raise WeightsError(f"{words} ({reason})") from error


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
