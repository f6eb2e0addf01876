"""TensorBoard's event file of a run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

_log = logging.getLogger(__name__)


class Events:
    """Writes numbers for TensorBoard, in the calling thread.

    A file that cannot be written ends no run: the same numbers are in ``metrics.jsonl``. The first
    error is a warning, and nothing is written after it.
    """

    def __init__(self, folder: Path, next_step: int):
        """Opens a new file.

        Args:
            folder: of the files; it is created if it does not exist.
            next_step: TensorBoard drops what older files have of this step and later ones.
        """
        self._folder = folder
        self._writer: EventsWriter | None = None
        with self._warning():
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=next_step, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes ``values`` at ``step``."""
        with self._warning():
            for name, value in values.items():
                self._write(Event(step=step, summary=scalar(name, value)))
            if self._writer is not None:
                self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with self._warning():
            if self._writer is not None:
                self._writer.close()

    def _write(self, event: Event) -> None:
        if self._writer is not None:
            event.wall_time = time.time()
            self._writer.write_event(event)

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            _log.warning(
                "%s: events for TensorBoard cannot be written (%s)", self._folder, error.strerror
            )
