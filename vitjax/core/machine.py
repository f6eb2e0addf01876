"""The machine that the process runs on."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.core.errors import ConfigError

# Switches off all limits of sizes, of models and of memory.
SWITCH = "VITJAX_MODEL_LIMITS"
OVERRIDE = f"{SWITCH}=off in the environment removes this limit"

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")


def process_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux can bind a process to some of the cores
        return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The memory that a process can have: RAM and swap, or less in a container; None if unknown."""
    limits = list(_cgroup_limits())
    if (machine := _machine_bytes()) is not None:
        limits.append(machine)
    return min(limits, default=None)


class Memory(NamedTuple):
    """Memory that arrays are in.

    Attributes:
        size: in bytes; None if it is not known.
        name: what has it, for errors.
    """

    size: int | None
    name: str


def machine_memory() -> Memory:
    """The memory of this machine, see `memory_bytes`."""
    return Memory(memory_bytes(), "this machine")


def device_memory(device: Any) -> Memory:
    """The memory of a device of JAX; those that are CPUs share the memory of their machine."""
    if device.platform == "cpu":
        return machine_memory()
    return Memory((device.memory_stats() or {}).get("bytes_limit"), "a device")


def limited() -> bool:
    """Whether the limits of sizes hold, which the environment variable `SWITCH` removes."""
    return os.environ.get(SWITCH, "").lower() != "off"


def check_memory(needed: int, what: str, remedy: str = "", memory: Memory | None = None) -> None:
    """Checks that ``needed`` bytes can be had at all, before they are asked for.

    Args:
        needed: a lower bound of what is needed.
        what: what needs it, for the error.
        remedy: what would need less, for the error; empty where ``what`` says it.
        memory: where it is needed; None for this machine.

    Raises:
        ConfigError: there is less memory in all, used or not.
    """
    there = machine_memory() if memory is None else memory
    if limited() and there.size is not None and needed > there.size:
        raise ConfigError(
            f"{what} needs at least {gigabytes(needed)} of memory, and {there.name} has"
            f" {gigabytes(there.size)} in all{f'; {remedy}' if remedy else ''} ({OVERRIDE})"
        )


def gigabytes(count: int) -> str:
    """A number of bytes for a message: ``"12.3 GB"``."""
    return f"{count / 1e9:,.1f} GB"


def _machine_bytes() -> int | None:
    sizes = _meminfo()
    if "MemTotal" in sizes:
        return sizes["MemTotal"] + sizes.get("SwapTotal", 0)
    with contextlib.suppress(AttributeError, ValueError, OSError):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _meminfo() -> dict[str, int]:
    """The sizes that Linux reports of its memory, in bytes; empty on other systems."""
    with contextlib.suppress(OSError):
        found = re.findall(r"^(\w+):\s+(\d+) kB$", _MEMORY.read_text(), re.MULTILINE)
        return {name: 1024 * int(size) for name, size in found}
    return {}


def _cgroup_limits() -> Iterator[int]:
    """The limits of the process's control groups and of those around them, versions 1 and 2."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    swap = _meminfo().get("SwapTotal", 0)
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS / "memory" if controllers else _CGROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if root not in (folder, *folder.parents):
                break
            with contextlib.suppress(OSError, ValueError):  # no file, or no limit
                yield int((folder / name).read_text()) + swap
