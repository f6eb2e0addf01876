"""A run's folder: locked while one writes in it, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitjax.core.errors import UserError


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
