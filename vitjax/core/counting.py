"""How far work on many files is: a line on the terminal, or one now and then in a log."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time

_FIRST = 1.0  # seconds without a word
_EVERY_ON_TERMINAL = 0.1
_EVERY_IN_LOG = 15.0
_ERASE = "\r\x1b[K"


class Counting:
    """Counts files on stderr, for work that takes longer than a second."""

    def __init__(self, what: str, total: int | None = None):
        """Counts nothing yet.

        Args:
            what: what is done, such as ``"listing photos"``.
            total: the number of files, if it is known.
        """
        self._what, self._total = what, total
        self._done = 0
        self._due = time.monotonic() + _FIRST
        self._shown = False

    def add(self, number: int = 1) -> None:
        """Counts more files, and says so if it is due."""
        self._done += number
        now = time.monotonic()
        if now < self._due:
            return
        terminal = _is_terminal()
        self._due = now + (_EVERY_ON_TERMINAL if terminal else _EVERY_IN_LOG)
        of = "" if self._total is None else f" of {self._total:,}"
        count = f": {self._done:,}{of} files"
        if terminal:
            # A longer line goes on in the next one, which is not erased.
            room = max(0, shutil.get_terminal_size().columns - 1 - len(count))
            _print(f"{_ERASE}{self._what[:room]}{count}", end="")
            self._shown = True
        else:
            _print(f"{self._what}{count}")

    def pause(self) -> None:
        """Removes the line from the terminal, where other text may follow."""
        if self._shown:
            _print(_ERASE, end="")
            self._shown = False


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def _print(text: str, end: str = "\n") -> None:
    """Prints on stderr if that is possible: the work goes on where nobody can be told of it."""
    if sys.stderr is not None:
        # ValueError: it is closed, or lacks a character.
        with contextlib.suppress(OSError, ValueError):
            print(text, end=end, file=sys.stderr, flush=True)
