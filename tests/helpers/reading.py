"""Reads files of weights in one process of its own, since a hostile one may end or fill a process.

Run as a program, it reads the paths that its arguments name and writes a line of JSON about each.
"""

import json
import resource
import sys
import time
from typing import NamedTuple

from damaging import MOST_BYTES, MOST_SECONDS, run

from vitjax.core.errors import UserError
from vitjax.weights.formats import files


class Read(NamedTuple):
    """What reading one file gave."""

    names: list  # of its arrays; empty if it was refused
    message: str  # of the error; "" if it was read
    seconds: float  # of one core
    peak_bytes: int  # of the process until then


def read_in_a_process(paths):
    """Reads ``paths``; returns what that gave for each, in order, or fails."""
    paths = list(paths)
    # One that hangs is killed; many on a busy machine take their time.
    most = 2 * MOST_SECONDS + len(paths) / 2
    ended = run(__file__, *paths, environment={"JAX_PLATFORMS": "cpu"}, most_seconds=most)
    found = [Read(*json.loads(line)) for line in ended.output.splitlines()]
    if len(found) < len(paths):
        raise AssertionError(f"{paths[len(found)]} ended the process: {ended}")
    return found


def assert_told(read, path, *words):
    """Checks that a file was refused in one line, which names it and has ``words``, or was read."""
    assert "\n" not in read.message, read.message
    for word in (str(path), *words):
        assert word in read.message, read
    assert read.seconds < MOST_SECONDS, read
    assert read.peak_bytes < MOST_BYTES, read


def main():
    for path in sys.argv[1:]:
        started = time.process_time()
        names, message = [], ""
        try:
            names = list(files.read(path))[:10]
        except UserError as error:
            message = str(error)
        except Exception as error:
            message = f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds = time.process_time() - started
        print(json.dumps([names, message, seconds, peak]), flush=True)


if __name__ == "__main__":
    main()
