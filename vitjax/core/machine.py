"""The machine that the process runs on."""

from __future__ import annotations

import os


def process_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux can bind a process to some of the cores
        return os.cpu_count() or 1
