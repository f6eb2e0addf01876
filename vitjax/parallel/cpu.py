"""Settings of the process that make steps on CPUs fast; the command line makes them."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from importlib.metadata import entry_points
from importlib.util import find_spec

import jax

# Names and numbers of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = -1, 256 * 2**20
# The flag of XLA that lists what YNNPACK computes, and the versions of JAX that have it.
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_VERSIONS_WITH_YNN = ((0, 10), (0, 11))


@functools.cache
def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory instead of returning it to the system.

    A step on a CPU allocates its working memory again each time, as one block of hundreds of
    megabytes. The system provides it in pages of 4 KB and clears each at its first access, which
    takes a quarter of a MAML step's time on two cores. The only cost is that the process never
    shrinks.

    Returns:
        Whether the settings were made; False without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE))
    return all(mallopt(key, value) for key, value in settings)


def compute_in_the_calling_thread() -> None:
    """Makes CPUs compute in the thread that calls a step; call it before JAX starts its devices.

    Otherwise JAX computes in threads of its own, and glibc has an arena per thread that holds no
    block above 64 MiB: larger ones are returned to the system despite `keep_freed_memory`. The main
    thread's arena holds blocks of any size. With it a U-Net's step takes a third less time.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def convolve_with_eigen() -> None:
    """Makes XLA compute convolutions on CPUs with Eigen; call it before JAX starts its devices.

    jaxlib 0.10 chooses YNNPACK's, which are slower for kernels with few channels, and most of all
    in derivatives by kernels (``docs/benchmarks.md``); both sum in float32. A choice in the
    variable ``XLA_FLAGS`` is kept. Where JAX has a plugin for GPUs or TPUs, nothing changes:
    plugins read the variable too, and end the process at a flag that they do not know.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    known = jax.__version_info__[:2] in _VERSIONS_WITH_YNN
    if known and _YNN not in flags and _only_cpus():
        os.environ["XLA_FLAGS"] = f"{flags} --{_YNN}=-individual_convolution".strip()


def _only_cpus() -> bool:
    if chosen := jax.config.values["jax_platforms"]:
        return bool(chosen == "cpu")
    packages = ("jax_plugins", "libtpu")
    return not any(map(find_spec, packages)) and not entry_points(group="jax_plugins")
