"""A run's folder: its files, its format, and the lock of the process that writes there."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import ml_collections

from vitjax.config.values import to_json
from vitjax.core.atomic import naming, write_json, write_text
from vitjax.core.errors import UserError
from vitjax.core.json_files import DamagedFileError, open_file, read_object
from vitjax.core.text import printable
from vitjax.data import description
from vitjax.training import formats


class WorkdirError(UserError):
    """The folder of a run cannot be used."""


CONFIG = "config.json"
DATA = "data.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
STARTED = "started.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
FIGURES = "figures"
FEATURES = "features"
ABOUT = "workdir.json"
LOCK = ".lock"
_MOST_OF_LOCK = 200  # bytes


class Started(NamedTuple):
    """How a run was started, for those who read about it later.

    Attributes:
        config_file: the config file; None for a config that was made in Python.
        overrides: the ``--config.`` arguments.
        config: the config before them, as plain values; None if it requires values that it lacks.
    """

    config_file: str | None
    overrides: Sequence[str]
    config: Mapping[str, Any] | None


def start_command(workdir: Path, config_file: str, overrides: Sequence[str]) -> str:
    """The command that starts the run in ``workdir``, for a shell."""
    return shlex.join(
        ["vitjax", "train", f"--config={config_file}", f"--workdir={workdir}", *overrides]
    )


def resume_command(workdir: Path, *overrides: str) -> str:
    """The command that resumes the run in ``workdir``, for a shell."""
    return shlex.join(["vitjax", "train", f"--workdir={workdir}", *overrides])


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Creates ``workdir`` and locks it for this process.

    The kernel releases the lock when the process ends, however it ends. A run that is refused
    leaves no folder behind that was not there, and in an old one the lock's file as it was.

    Raises:
        WorkdirError: another run has locked it, it has another format, or the folder cannot be
            created or written to.
    """
    path = workdir / LOCK
    above = [workdir / CHECKPOINTS, workdir, *workdir.parents]
    created = [folder for folder in above if not os.path.lexists(folder)]
    existed, before = os.path.lexists(path), _holder(path)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path).acquire(timeout=0)
    except filelock.Timeout:
        holder = printable(_holder(path).decode(errors="replace").strip()) or "unknown process"
        raise WorkdirError(
            f"{workdir}: another run ({holder}) is writing there; wait for it, stop it, or choose"
            " another --workdir"
        ) from None
    except OSError as error:
        _remove_empty(created)
        raise WorkdirError(f"{workdir}: cannot write there ({error.strerror})") from error
    with held:
        try:
            with naming(path):
                path.write_text(f"process {os.getpid()} on {os.uname().nodename}")
            check_format(workdir)
            yield
        except BaseException:
            # While the lock is held: nobody else can have begun a run meanwhile. An error in
            # cleaning, as on a full disk, must not hide the cause.
            with contextlib.suppress(OSError):
                if existed:
                    path.write_bytes(before)
                else:
                    path.unlink(missing_ok=True)
            _remove_empty(created)
            raise


def _holder(path: Path) -> bytes:
    """What the file of a lock says of the process that made it; empty if it cannot be read."""
    try:
        with open_file(path, most_bytes=_MOST_OF_LOCK) as file:
            return file.read()
    except (OSError, DamagedFileError):
        return b""


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes the folders, deepest first, as far as they are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_format(workdir: Path) -> int:
    """The format of ``workdir``, which is 1 without `ABOUT`.

    Raises:
        WorkdirError: this version of vitjax cannot read it.
    """
    path = workdir / ABOUT
    about = _read(path)
    found: Any = 1 if about is None else about.get("format")
    if found not in range(1, formats.FORMAT + 1):
        raise WorkdirError(
            f"{workdir}: the run has format {found!r:.40} ({ABOUT}), and this version of vitjax"
            f" reads formats 1 to {formats.FORMAT}; use the version that wrote it, or choose"
            " another --workdir"
        )
    return int(found)


def read_data(workdir: Path) -> dict[str, Any] | None:
    """The description of the data that the run in ``workdir`` wrote; None if it wrote none yet.

    Raises:
        WorkdirError, ConfigError, DataError: the file is damaged.
    """
    found = _read(workdir / DATA)
    if found is not None:
        description.check(found, str(workdir / DATA))
    return found


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The config that the run in ``workdir`` was started with, in the format of this version.

    Raises:
        WorkdirError: the folder holds no run, or one of another format, or the file is damaged.
    """
    if workdir.is_file():
        raise WorkdirError(f"{workdir} is a file; a run is a folder")
    found = _read(workdir / CONFIG)
    if found is None:
        beside = sorted(p.parent.name for p in workdir.parent.glob(f"*/{DATA}"))
        raise WorkdirError(
            f"{workdir}: no run there (no {CONFIG})"
            + (f"; runs beside it: {', '.join(beside)}" if beside else "")
        )
    upgraded = formats.upgrade(found, check_format(workdir))
    try:
        return ml_collections.ConfigDict(upgraded)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of the names of keys
        raise WorkdirError(f"{workdir / CONFIG}: holds no config ({error})") from error


def write_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Writes the config of the run in ``workdir``, as plain JSON values, for `read_config`."""
    if check_format(workdir) != formats.FORMAT:
        # Between the two writes, the folder has no config rather than one of another format.
        (workdir / CONFIG).unlink(missing_ok=True)
        write_json(workdir / ABOUT, {"format": formats.FORMAT})
    # As JSON with NaN and infinities, which values of a config may be.
    write_text(workdir / CONFIG, to_json(config) + "\n")


def read_started(workdir: Path) -> dict[str, Any]:
    """How the run in ``workdir`` was started, see `Started`; empty if that is not known.

    Raises:
        WorkdirError: the file is damaged.
    """
    return _read(workdir / STARTED) or {}


def read_summary(workdir: Path) -> dict[str, Any]:
    """The contents of ``summary.json``; empty before the end of the run.

    Raises:
        WorkdirError: the file is damaged.
    """
    return _read(workdir / SUMMARY) or {}


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None without the file."""
    try:
        return read_object(path)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise WorkdirError(
            f"{error}; restore it from a copy, or start the run again in another --workdir"
        ) from error
