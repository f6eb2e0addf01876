"""Settings of the process that a command runs in.

The library sets none of them. A program of your own that wants the speed of ``vitjax train`` on
CPUs calls `prepare` first and `start_devices` before it builds anything.
"""

from __future__ import annotations

import logging
import os
import sys


def prepare() -> None:
    """Silences what dependencies report beside vitjax; imports none of them."""
    # Without a GPU, JAX reports what it looked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Orbax reports each of its steps through absl, and an error again from each thread and each
    # array that it concerns. vitjax raises the error once, as a CheckpointError.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # They report packages that their examples need, and each shape that is not written down.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.unraisablehook = _report_unless_loop_is_closed


def start_devices(*, distributed: bool = False) -> None:
    """Starts JAX, with the settings that make the loader and steps on CPUs fast.

    Args:
        distributed: start as one of several hosts, which JAX finds by Slurm, Open MPI or a TPU pod.
    """
    import jax

    from vitjax.data.image_files import transform_in_the_calling_thread
    from vitjax.parallel.memory import compute_in_the_calling_thread, keep_freed_memory

    transform_in_the_calling_thread()
    compute_in_the_calling_thread()
    if distributed:
        jax.distributed.initialize()
    if jax.default_backend() == "cpu":
        keep_freed_memory()


def _report_unless_loop_is_closed(unraisable: sys.UnraisableHookArgs) -> None:
    """Drops what TensorStore's futures report after a read or write that failed already."""
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)
