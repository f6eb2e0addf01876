"""Batches placed on the devices ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any


def ahead(
    batches: Iterable[Any], place: Callable[[Any], Any], size: int = 2
) -> Generator[Any, None, None]:
    """Yields ``place(batch)`` for every batch, made by a thread up to ``size`` batches ahead.

    So the next batches are on the device before the step that needs them. An error in ``batches``
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
        close = getattr(batches, "close", None)
        if close is not None:
            close()
