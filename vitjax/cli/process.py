"""Settings of the process that a command runs in.

The library sets none of them. A program of your own that wants the speed of ``vitjax train`` on
CPUs calls `prepare` first and `start_devices` before it builds anything.
"""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitjax.cli.hosts import Hosts
from vitjax.cli.hosts import start as start_hosts
from vitjax.core.errors import ConfigError
from vitjax.core.silence import silence_pillow
from vitjax.core.text import printable, printable_lines

# The status of a process whose output nobody reads any more, as a shell counts it.
BROKEN_PIPE = 128 + signal.SIGPIPE
# Bytes of compiled code that are kept.
_MOST_COMPILED = 2 * 2**30


def prepare() -> None:
    """Makes output possible in any encoding, and silences what dependencies report beside vitjax.

    Imports none of them.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before Python started: the next file would take its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            # Names of classes and files may have characters that the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_PrintableRecord)
    # Otherwise dependencies choose a form, when the first of them logs. Nothing if one is chosen.
    handler = _StandardError()
    handler.setFormatter(_LogFormat())
    logging.basicConfig(handlers=[handler])
    # Without a GPU, JAX reports what it looked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Orbax reports each of its steps through absl, and an error again from each thread and each
    # array that it concerns. vitjax raises the error once, as a CheckpointError.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    silence_pillow()
    # A write that fails ends the event loop before the writes after it start.
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    sys.unraisablehook = _report_unless_loop_is_closed
    if not isinstance(warnings.showwarning, _CacheWarnings):
        warnings.showwarning = _CacheWarnings(warnings.showwarning)


def flush_output() -> None:
    """Writes what is buffered, so that an error is raised here and not when Python ends.

    Raises:
        BrokenPipeError: the reader of the output has closed it, as ``head`` does.
        OSError: the output cannot be written; a disk may be full.
    """
    sys.stdout.flush()
    sys.stderr.flush()


def discard_output() -> None:
    """Lets Python end quietly although what is buffered for its output cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())


def simulate_devices(count: int, *, only: bool) -> None:
    """Makes JAX start ``count`` CPU devices; call it before `start_devices`.

    Args:
        count: their number.
        only: whether to leave GPUs and TPUs alone.

    Raises:
        ConfigError: JAX has started, with fewer devices.
    """
    import jax

    try:
        if only:
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        if len(jax.devices()) < count:
            raise ConfigError(
                f"{count} devices are needed, and JAX has started {len(jax.devices())}, as a config"
                f" does that computes: JAX_NUM_CPU_DEVICES={count} in the environment starts them"
            ) from None


def start_devices(*, hosts: Hosts | None = None, cache: bool = True) -> None:
    """Starts JAX, with the settings that make the loader and steps on CPUs fast.

    Args:
        hosts: start as one of several hosts; None for one host alone.
        cache: read and keep compiled code. XLA's analysis of the memory of a program that is read
            from a cache is incomplete.

    Raises:
        ConfigError, LostHostError: the other hosts are not found or cannot be reached.
    """
    if hosts is not None:
        start_hosts(hosts)
    import jax

    from vitjax.data.image_files import transform_in_the_calling_thread
    from vitjax.parallel import cpu

    transform_in_the_calling_thread()
    cpu.compute_in_the_calling_thread()
    cpu.convolve_with_eigen()
    if cache:
        keep_compiled_code()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    if jax.default_backend() == "cpu":
        cpu.keep_freed_memory()


def keep_compiled_code() -> None:
    """Keeps what JAX compiles for later processes, in the user's cache folder.

    The folder is ``vitjax/compiled`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, and holds at most
    2 GiB: what has not been used for longest makes room. JAX's own settings take precedence, such
    as the variables ``JAX_COMPILATION_CACHE_DIR`` and ``JAX_ENABLE_COMPILATION_CACHE``. Where the
    folder cannot be written, nothing is kept.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        folder = Path(root, "vitjax", "compiled")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or the user has no home
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_COMPILED)
    # A start compiles dozens of small programs, which take longer together than the step's.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class _CacheWarnings:
    """Shows warnings, and of those of JAX's cache of compiled code one, in a line.

    JAX repeats them for each function that it compiles, as long as the disk is full.
    """

    def __init__(self, show: Callable[..., None]):
        self._show, self._said = show, False

    def __call__(self, message: object, *arguments: Any, **keywords: Any) -> None:
        """Takes the place of `warnings.showwarning`."""
        if not re.match("Error (reading|writing) persistent compilation cache", str(message)):
            self._show(message, *arguments, **keywords)
        elif not self._said:
            self._said = True
            reason = printable(str(message).partition("': ")[2].partition("\n")[0]) or "unknown"
            import jax

            folder = jax.config.values["jax_compilation_cache_dir"] or "the cache of compiled code"
            print(
                f"vitjax: warning: {folder}: compiled code cannot be kept there ({reason}); it is"
                " compiled again in each process",
                file=sys.stderr,
            )


class _PrintableRecord(logging.LogRecord):
    """A message of a log, with control characters in names escaped."""

    def getMessage(self) -> str:
        """The message; it may have several lines."""
        return printable_lines(super().getMessage())


class _StandardError(logging.StreamHandler[Any]):
    """Writes to the standard error of the moment, which a program may have redirected."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Where the next message goes."""
        return sys.stderr


class _LogFormat(logging.Formatter):
    """Messages as those that commands print themselves: "warning: ..."."""

    def format(self, record: logging.LogRecord) -> str:
        """The level and the message."""
        return f"{record.levelname.lower()}: {super().format(record)}"


def _report_unless_loop_is_closed(unraisable: sys.UnraisableHookArgs) -> None:
    """Drops what TensorStore's futures report after a read or write that failed already."""
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)
