"""Memory on CPUs: kept from step to step, where the command line asks for it."""

from __future__ import annotations

import ctypes
import functools
import platform

import jax

# Names and numbers of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = -1, 256 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed, rather than give it back to the system.

    A step on a CPU takes its working memory anew each time, as one block of hundreds of megabytes.
    From the system that comes in pages of 4 KB, each of which is cleared at its first touch: a
    quarter of a MAML step's time on two cores. Costs nothing but that the process stays as large as
    it once was.

    Returns:
        Whether it could be done: only where glibc is.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE))
    return all(mallopt(key, value) for key, value in settings)


def compute_in_the_calling_thread() -> None:
    """Has CPUs compute where a step is called; to be called before JAX knows its devices.

    JAX has threads of its own for that, and glibc an arena for each thread, which holds no block
    above 64 MiB: larger ones go back to the system whatever `keep_freed_memory` says. The main
    thread's arena holds any. A U-Net's step took a third less time.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
