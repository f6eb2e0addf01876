"""The folder of a run's checkpoints, checked before Orbax opens it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from vitjax.core.errors import UserError
from vitjax.core.json_files import DamagedFileError, read_object

# Bytes of a file that holds no arrays.
_MOST_METADATA = 2**28
# What Orbax reads of all checkpoints when it opens their folder.
_READ_AT_ONCE = ("_CHECKPOINT_METADATA", "metrics")
_WAYS = "remove this checkpoint, or restore its files from a copy"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another model or config."""


class RemovedError(CheckpointError):
    """A training that runs removed a checkpoint that another process was about to read."""


def begun(directory: Path) -> bool:
    """Whether ``directory`` exists and has a checkpoint, complete or damaged."""
    return directory.is_dir() and any(entry.name.isdecimal() for entry in directory.iterdir())


def check_path(directory: Path) -> None:
    """Raises CheckpointError for a path that is not UTF-8, which TensorStore cannot open."""
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError:
        shown = str(directory).encode(errors="replace").decode()
        raise CheckpointError(
            f"{shown}: the path is not UTF-8, and checkpoints cannot be stored there; rename the"
            " folder, or choose another one"
        ) from None


def check_files(directory: Path) -> None:
    """Checks that files of checkpoints can be read at all.

    Orbax waits for a FIFO without end, and reads files of metadata completely.

    Raises:
        CheckpointError: something is no file, or a file of metadata is too large.
    """
    for place, folders, files in os.walk(directory):
        # The file "metrics" lies in a folder of this name; another folder there takes its place.
        wrong = [each for each in folders if each == os.path.basename(place) == "metrics"]
        for name in (*files, *wrong):
            path = os.path.join(place, name)
            try:
                found = os.stat(path)
            except OSError:  # removed by a training that runs, or reported when it is read
                continue
            arrays = os.path.basename(place) == "d"
            if name in _READ_AT_ONCE and stat.S_ISREG(found.st_mode):
                with contextlib.suppress(FileNotFoundError):
                    _check_object(path)
            if not stat.S_ISREG(found.st_mode):
                problem = "is not a file"
            elif not arrays and found.st_size > _MOST_METADATA:
                problem = f"has {found.st_size:,} bytes, and at most {_MOST_METADATA:,} are read"
            else:
                continue
            raise CheckpointError(f"{path}: {problem}; {_WAYS}")


def _check_object(path: str) -> None:
    try:
        read_object(path, _MOST_METADATA)
    except DamagedFileError as error:
        raise CheckpointError(f"{error}; {_WAYS}") from error
