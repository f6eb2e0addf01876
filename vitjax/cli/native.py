"""What the C++ code under JAX prints and how it ends a process, made readable.

When a host is lost, JAX ends all other hosts from a C++ thread: it prints a page and calls
``abort()``, which no ``except`` sees. Its callback for this moment cannot be given in Python
(``std::bad_cast`` in jaxlib 0.10.2). So the handler of SIGABRT says what happened in a line.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

# What the service that connects the hosts prints, on several lines each.
_OF_THE_SERVICE = re.compile(
    rb"^[IWEF]\d{4} \S+ +\d+ (coordination_service\w*|preemption\w*|client|distributed\w*)\.(cc|h):"
    rb"|^\[Gloo\] Rank "
)
_BEGINS_A_MESSAGE = re.compile(rb"^[IWEF]\d{4} \S+ +\d+ \S+:\d+\] |^\[Gloo\]")
_MOST_KEPT = 2**20
_BUFFER = 2**20  # of a pipe: a native thread may print much while Python is busy
# What the C library keeps; Python would free it.
_handlers: list[Any] = []
# Taken, and never given back, by the thread that reports why the process ends.
ending = threading.Lock()


class _Sieve:
    """Passes on what native code prints to one of the standard streams, except for the service's.

    Python's own stream writes beside it, to the same place.
    """

    def __init__(self, name: str):
        stream = getattr(sys, name)
        self.number, self.kept = stream.fileno(), b""
        stream.flush()
        self.real = os.dup(self.number)
        moved = io.TextIOWrapper(
            open(os.dup(self.number), "wb"),  # noqa: SIM115 - open as long as the process
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
        )
        reading, writing = os.pipe()
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _BUFFER)
        os.dup2(writing, self.number)
        os.close(writing)
        setattr(sys, name, moved)
        self._thread = threading.Thread(target=self._pass_on, args=(reading,), daemon=True)
        self._thread.start()

    def _pass_on(self, reading: int) -> None:
        dropped = False
        with open(reading, "rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                if _BEGINS_A_MESSAGE.search(line):
                    dropped = _OF_THE_SERVICE.search(line) is not None
                if not dropped:
                    os.write(self.real, line)
                elif len(self.kept) < _MOST_KEPT:
                    self.kept += line
                # Gloo's are of one line each.
                dropped = dropped and not line.startswith(b"[Gloo]")

    def end(self) -> None:
        """Lets native code print directly again, after passing on all that it printed before."""
        os.dup2(self.real, self.number)
        # A child process may hold the other end.
        self._thread.join(timeout=1)


_sieves: list[_Sieve] = []


def pass_on_all() -> None:
    """Passes on what native code has printed, before the process ends."""
    for sieve in _sieves:
        sieve.end()


def translate(explain: Callable[[str], str], status: int) -> None:
    """From now on, says in words why the service that connects the hosts ends the process.

    Args:
        explain: from what the service printed, one line for the person at the keyboard; empty if
            the process ends for another reason, which is then shown as it is.
        status: the exit status of a process that the service ends.
    """
    try:
        _sieves.extend(_Sieve(name) for name in ("stdout", "stderr"))
    except (OSError, AttributeError):  # streams that are no files
        return
    # Registered before JAX is imported, it runs after JAX's own end.
    atexit.register(pass_on_all)

    def aborted(number: int) -> None:
        ending.acquire()
        pass_on_all()
        printed = b"".join(sieve.kept for sieve in _sieves)
        line = explain(printed.decode(errors="replace"))
        if line:
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))
            os._exit(status)
        os.write(2, printed)  # and abort() goes on

    # Python's own handlers run later, in the main thread; abort() does not wait for them.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _handlers.append(handler)
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
