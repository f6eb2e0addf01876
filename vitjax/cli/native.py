"""What the C++ code under JAX prints and how it ends a process, made readable.

When a host is lost, JAX ends all other hosts from a C++ thread: it prints a page and calls
``abort()``, which no ``except`` sees. Its callback for this moment cannot be given in Python
(``std::bad_cast`` in jaxlib 0.10.2). So native code prints to a file, which cannot fill up as a
pipe can, and a thread of Python passes its lines on. It leaves out those of the service that
connects the hosts, and says in a line why that ends the process. ``abort()`` waits for it by C's
``sleep``: as this needs nothing of Python, the process ends even if Python is stuck.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import io
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable

_OF_THE_SERVICE = re.compile(
    rb"^[IWEF]\d{4} \S+ +\d+ (coordination_service\w*|preemption\w*|client|distributed\w*)\.(cc|h):"
    # Threads print parts of these lines between those of others.
    rb"|\[Gloo\] Rank|is connected to \d+ peer ranks|connected peer ranks is"
)
# The rest of its messages, each of a line.
_GOES_ON = re.compile(rb"^(:UNKNOWN:|Additional GRPC error|RPC: |The tasks have crashed|\d*$)")
_LAST_WORDS = b"Terminating process because"
_SECONDS = 0.2  # between two looks at the file; abort() waits for SIGABRT = 6 seconds
_MOST_BYTES = 2**16  # read at a time
# Held by the thread that reports why the process ends, from then on.
ending = threading.RLock()


class _Output:
    """What native code prints; Python's own streams write beside it, to the same places."""

    def __init__(
        self, streams: dict[str, io.TextIOWrapper], explain: Callable[[str], tuple[str, int]]
    ):
        self._explain = explain
        # Before anything is changed, as it may fail.
        numbers = {name: stream.fileno() for name, stream in streams.items()}
        self._file, self._path = tempfile.mkstemp(prefix=f"vitjax-{os.getpid()}-", suffix=".log")
        self._real = {number: os.dup(number) for number in numbers.values()}
        self._errors = self._real[numbers["stderr"]]
        # Who has asked for the service's messages gets them. JAX asks for level 1 when it is
        # imported, so a process that a program with JAX starts finds that.
        self._all = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
        self._read, self._rest, self._dropped, self._last_words = 0, b"", False, b""
        self._reading = threading.Lock()
        for name, number in numbers.items():
            setattr(sys, name, _beside(streams[name], os.dup(number)))
            os.dup2(self._file, number)
        threading.Thread(target=self._watch, daemon=True).start()

    def pass_on(self, *, whole: bool = True) -> None:
        """Passes on the lines that native code has printed since the last time.

        Args:
            whole: leave a line that has not ended for the next time.
        """
        with self._reading:
            while block := os.pread(self._file, _MOST_BYTES, self._read):
                self._read += len(block)
                *lines, self._rest = (self._rest + block).split(b"\n")
                for line in lines:
                    self._take(line + b"\n")
            if self._rest and not whole:
                self._take(self._rest)
                self._rest = b""

    def _take(self, line: bytes) -> None:
        of_the_service = _OF_THE_SERVICE.search(line) is not None
        self._dropped = of_the_service or (self._dropped and _GOES_ON.search(line) is not None)
        if self._last_words or (of_the_service and _LAST_WORDS in line):
            self._last_words += line
            self._dropped = True
        if self._all or not self._dropped:
            self._write(line)

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk, or nobody reads
            os.write(self._errors, line)

    def _watch(self) -> None:
        while not self._last_words:
            time.sleep(_SECONDS)
            self.pass_on()
        time.sleep(_SECONDS)
        self.pass_on(whole=False)
        with ending:
            line, status = self._explain(self._last_words.decode(errors="replace"))
            self._write(f"{line}\n".encode(errors="backslashreplace"))
            self.end()
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(status)

    def end(self) -> None:
        """Passes on the rest, and lets native code print directly again."""
        for number, real in self._real.items():
            os.dup2(real, number)
        self.pass_on(whole=False)
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _beside(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    """A stream that writes to ``number`` as ``stream`` writes."""
    stream.flush()
    return io.TextIOWrapper(
        open(number, "wb", buffering=0 if stream.write_through else -1),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


_outputs: list[_Output] = []


def pass_on_all() -> None:
    """Passes on what native code has printed, before the process ends."""
    for output in _outputs:
        output.end()


def translate(explain: Callable[[str], tuple[str, int]]) -> None:
    """From now on, says in words why the service that connects the hosts ends the process.

    All that native code prints goes to standard error.

    Args:
        explain: from the last words of the service, one line for the person at the keyboard and the
            exit status.
    """
    if not (isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stderr, io.TextIOWrapper)):
        return
    try:
        _outputs.append(_Output({"stdout": sys.stdout, "stderr": sys.stderr}, explain))
    except OSError:  # streams that are no files, or a full disk
        return
    # Registered before JAX is imported, it runs after JAX's own end.
    atexit.register(pass_on_all)
    tracebacks = faulthandler.is_enabled()
    faulthandler.disable()
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
    if tracebacks:
        faulthandler.enable(sys.stderr)
