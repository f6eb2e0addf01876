"""The folder of a run's checkpoints, checked before Orbax reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orbax.checkpoint import path as orbax_path

from vitjax.core.errors import UserError
from vitjax.core.json_files import DamagedFileError, read_object

# Bytes of the files that Orbax reads of all checkpoints when it opens their folder.
_MOST_AT_ONCE = 2**22
# Of any other file that holds no arrays: JSON takes up to fifty times its size in memory.
_MOST_METADATA = 2**24
_ABOUT = "_CHECKPOINT_METADATA"
_METRICS = os.path.join("metrics", "metrics")


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


class ReadableSteps(orbax_path.step.NameFormat[orbax_path.step.Metadata]):
    """The steps in a folder of checkpoints; those that Orbax cannot even list are set apart.

    One file that Orbax cannot read would otherwise keep it from opening the folder. What a killed
    run left half written has other names, and is no step.

    Attributes:
        damaged: for each step that was set apart in the last listing what is wrong with it.
    """

    def __init__(self) -> None:
        self._plain = orbax_path.step.standard_name_format()
        self.damaged: dict[int, str] = {}

    def build_name(self, step: int) -> str:
        """The name of a step's folder."""
        return str(self._plain.build_name(step))

    def find_all(self, base_path: Any) -> Iterator[Any]:
        """The steps that can be listed."""
        found, damaged = [], {}
        for each in self._plain.find_all(base_path):
            problem = problem_of(Path(each.path)) or _times_problem(each)
            if problem:
                damaged[each.step] = problem
            else:
                found.append(each)
        self.damaged = damaged
        return iter(found)

    def find_step(self, base_path: Any, step: int) -> Any:
        """The step; where it was removed meanwhile, reading it raises FileNotFoundError."""
        path = orbax_path.step.build_step_path(base_path, self, step)
        return orbax_path.step.Metadata(step=step, path=path)


def problem_of(step: Path) -> str:
    """Why Orbax must not read the checkpoint in the folder ``step``; empty if it may.

    Orbax waits for a named pipe without end, reads files of metadata completely, and lists no
    checkpoint beside one whose metrics or times it cannot read. What a running training removes
    meanwhile is no problem.
    """
    for place, folders, files in os.walk(step):
        # The file "metrics" lies in a folder of this name; another folder there takes its place.
        wrong = [each for each in folders if each == os.path.basename(place) == "metrics"]
        for name in (*files, *wrong):
            path = os.path.join(place, name)
            inner = os.path.relpath(path, step)
            most = _MOST_AT_ONCE if inner in (_ABOUT, _METRICS) else _MOST_METADATA
            try:
                found = os.stat(path)
            except OSError:  # removed meanwhile, or reported when it is read
                continue
            if not stat.S_ISREG(found.st_mode):
                return f"its {inner} is not a file"
            if os.path.basename(place) != "d" and found.st_size > most:
                return f"its {inner} has {found.st_size:,} bytes, and at most {most:,} are read"
    return _metrics_problem(step / _METRICS)


def _metrics_problem(path: Path) -> str:
    try:
        read_object(path, _MOST_AT_ONCE)
    except DamagedFileError as error:
        return str(error)
    except (FileNotFoundError, NotADirectoryError):  # it was not evaluated, or is removed
        pass
    return ""


def _times_problem(step: Any) -> str:
    """Why Orbax cannot read when a checkpoint was made; it does without what is no JSON."""
    try:
        _ = step.commit_timestamp
    except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
        return ""
    except Exception as error:  # of any type, as values of another kind make Orbax raise
        return f"its {_ABOUT} cannot be used ({type(error).__name__})"
    return ""
