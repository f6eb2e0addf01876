"""Stopping on signals: SIGTERM from a scheduler, SIGINT from the keyboard."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Interrupted(Exception):
    """The run was stopped by a signal, and its state is in a checkpoint.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, number: int, step: int, command: str):
        super().__init__(
            f"Stopped by {signal.Signals(number).name} after step {step}; the checkpoint is"
            f" written. To resume from it: {command}"
        )
        self.signal = number


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT; a second signal of a kind has its usual effect."""
    received: list[int] = []
    old: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, old[number])

    try:
        for name in (signal.SIGTERM, signal.SIGINT):
            old[name] = signal.signal(name, note)
    except ValueError:  # not the main thread, which receives all signals
        old = {}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
