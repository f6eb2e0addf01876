"""What tests of hostile input share: damaged copies of a file, and the cost of reading one."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

# An answer in words is one line. The limits are of a whole process, with the libraries it loads.
MOST_SECONDS = 10
MOST_BYTES = 10**9


def damaged(content, *, count, seed=0):
    """Damaged copies of ``content``, spread evenly over all of it.

    Yields:
        What was done, for the message of a test; and the bytes, which differ from ``content``.
    """
    generator = np.random.default_rng(seed)
    edges = np.linspace(0, len(content), count + 1).astype(int)
    for index, (first, last) in enumerate(itertools.pairwise(edges)):
        at = int(generator.integers(first, max(last, first + 1)))
        length = int(generator.choice([1, 2, 4, 8, 64]))
        begin, rest = content[:at], content[at + length :]
        name, copy = [
            (f"cut to {at} bytes", begin),
            (f"a bit of byte {at} flipped", _flipped(content, at, int(generator.integers(8)))),
            (f"{length} bytes at {at} removed", begin + rest),
            (f"{length} bytes at {at} twice", begin + content[at : at + length] + content[at:]),
            (f"{length} zeros at {at}", begin + bytes(length) + rest),
            (f"{length} bytes of 0xff at {at}", begin + b"\xff" * length + rest),
            (f"{length} random bytes at {at}", begin + generator.bytes(length) + rest),
        ][index % 7]
        if copy != content:
            yield name, copy


def _flipped(content, at, bit):
    copy = bytearray(content)
    copy[min(at, len(copy) - 1)] ^= 1 << bit
    return bytes(copy)


class Ended(NamedTuple):
    """How a process ended, and what it needed."""

    status: int  # negative: the signal that ended it
    output: str
    errors: str
    seconds: float
    peak_bytes: int


# A process that starts another one, and reports its status, its peak memory, and its time on the
# cores, which does not depend on what else the machine does. The memory of the process that starts
# it counts as that of the other one, and pytest may need gigabytes.
_LAUNCHER = """
import os, sys
report, *command = sys.argv[1:]
os.set_inheritable(int(report), False)
process = os.fork()
if not process:
    os.execv(command[0], command)
_, status, usage = os.wait4(process, 0)
seconds = usage.ru_utime + usage.ru_stime
report_of = (os.waitstatus_to_exitcode(status), usage.ru_maxrss, seconds)
os.write(int(report), b"%d %d %f" % report_of)
"""


def run(*arguments, environment=None, cwd=None, most_seconds=12 * MOST_SECONDS):
    """Runs Python with ``arguments``; a process is killed after ``most_seconds``."""
    read, write = os.pipe()
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        os.fdopen(read) as report,
    ):
        process = subprocess.Popen(
            [sys.executable, "-ESc", _LAUNCHER, str(write), sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=cwd or Path(__file__).parents[2],
            env={**os.environ, **(environment or {})},
            pass_fds=(write,),
            start_new_session=True,
        )
        os.close(write)
        killer = threading.Timer(most_seconds, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        process.wait()
        killer.cancel()
        # Nothing is reported of a process that was killed here.
        status, peak, seconds = report.read().split() or (-signal.SIGKILL, 0, most_seconds)
        texts = [file.seek(0) or file.read() for file in (output, errors)]
    return Ended(int(status), *texts, float(seconds), int(peak) * 1024)


def assert_answered(ended, *names, status=2):
    """Checks that a process ended in words that have all ``names``, within the limits."""
    assert ended.status == status, ended
    assert "Traceback" not in ended.errors, ended.errors
    assert len(ended.errors.strip().splitlines()) == 1, ended.errors
    for name in names:
        assert str(name) in ended.errors, ended.errors
    assert ended.seconds < MOST_SECONDS, ended
    assert ended.peak_bytes < MOST_BYTES, ended
