"""A run's folder: locked while one writes in it, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitjax.errors import UserError
from vitjax.whole_files import new_file


class WorkdirError(UserError):
    """A run's folder cannot be used as asked."""


CONFIG = "config.json"
DATA = "data.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
FIGURES = "figures"
FEATURES = "features"


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Makes ``workdir`` and holds it for this process alone.

    The kernel lets go of the lock when the process ends, however it ends.

    Raises:
        WorkdirError: another run holds it, or the folder cannot be made or written in.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / ".lock", "a+")  # noqa: SIM115 - held open for the lock's lifetime
    except OSError as error:
        raise WorkdirError(f"{workdir}: cannot write there ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise WorkdirError(
                f"{workdir}: another run ({holder or 'unknown process'}) is writing there; wait for"
                " it, stop it, or choose another --workdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` all at once: a reader sees the old file or the new one."""
    with new_file(path) as unfinished:
        unfinished.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON, all at once; what is not a finite number becomes null."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_data(workdir: Path) -> dict[str, Any] | None:
    """What the run in ``workdir`` noted of its data; None where it did not come that far."""
    path = workdir / DATA
    if not path.is_file():
        return None
    noted: dict[str, Any] = json.loads(path.read_text())
    return noted


def read_config(workdir: Path) -> str:
    """The JSON text of the config that the run in ``workdir`` was started with.

    Raises:
        WorkdirError: there is no run.
    """
    path = workdir / CONFIG
    if not path.is_file():
        beside = sorted(p.parent.name for p in workdir.parent.glob(f"*/{DATA}"))
        raise WorkdirError(
            f"{workdir}: no run there (no {CONFIG})"
            + (f"; runs beside it: {', '.join(beside)}" if beside else "")
        )
    return path.read_text()
