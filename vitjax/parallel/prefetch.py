"""Places batches on the devices ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol

# The batches that wait on the devices beside the one in use; one more is held by the thread.
AHEAD = 2


class Batches(Protocol):
    """An iterator of batches that holds threads or processes until it is closed."""

    def __iter__(self) -> Batches:
        """Itself."""

    def __next__(self) -> Any:
        """The next batch."""

    def close(self) -> None:
        """Ends threads and processes."""


def ahead(
    batches: Batches, place: Callable[[Any], Any], size: int = AHEAD
) -> Generator[Any, None, None]:
    """Yields ``place(batch)`` for every batch, from a thread that runs up to ``size`` ahead.

    The next batches are then on the device before the step that needs them. An error in ``batches``
    is raised here, in its place. Closing the iterator ends the thread and closes ``batches``.
    """
    results: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=size)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                results.put((kind, value), timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for batch in batches:
                put("batch", place(batch))
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
        batches.close()
