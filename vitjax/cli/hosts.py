"""Running as one of several hosts: arguments, the start, and the end when a host is lost."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import re
import signal
import socket
import time

from vitjax.cli import native
from vitjax.core.errors import ConfigError, UserError, in_one_line
from vitjax.core.text import printable

# The exit status after another host was lost: EX_TEMPFAIL of <sysexits.h>, "try again".
LOST = 75
# How long a host that fails waits before it leaves, since its end ends the others: where all fail
# in the same way, each has to report it. Host 0, on which all depend, is the last.
_PATIENCE = (4, 2)
# Of JAX's end, at which hosts wait for the one that draws figures.
_SHUTDOWN = 3600
# Of the errors of collective operations and barriers those that mean another host.
_BROKEN = re.compile(
    r"connection (closed|reset|refused)|(closed|reset) by peer|socket closed|broken pipe|heartbeat|"
    r"deadline.exceeded|remote process exited|network error",
    re.IGNORECASE,
)


class LostHostError(UserError):
    """Another host of the run has ended, or cannot be reached."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """How a process finds the other hosts.

    Attributes:
        coordinator: address and port at which host 0 can be reached; None lets JAX find the hosts.
        count: the number of hosts, with ``coordinator``.
        index: the number of this host, from 0, with ``coordinator``.
        heartbeat: seconds without a sign of life after which a host is taken for lost.
        start: seconds to wait for all hosts at the start.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    heartbeat: int = 60
    start: int = 300


@dataclasses.dataclass
class _Process:
    """This process among the hosts.

    Attributes:
        hosts: None as long as it is alone.
        connected: whether JAX has connected it with the others.
        unknown: why host 0 had no address at the start; empty if it had one.
    """

    hosts: Hosts | None = None
    connected: bool = False
    unknown: str = ""


_process = _Process()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of several hosts."""
    group = parser.add_argument_group("several hosts (docs/hosts.md)")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="start as one of several hosts, which JAX finds on TPU pods and under Slurm, Open MPI"
        " and Kubernetes",
    )
    group.add_argument(
        "--coordinator",
        metavar="ADDRESS:PORT",
        help="start as one of several hosts, of which host 0 has this address and a free port",
    )
    group.add_argument("--num-hosts", type=int, metavar="N", help="with --coordinator")
    group.add_argument(
        "--host", type=int, metavar="I", help="with --coordinator: this host's number, from 0"
    )
    group.add_argument(
        "--heartbeat-timeout",
        type=int,
        default=Hosts.heartbeat,
        metavar="SECONDS",
        help="a host without a sign of life for this long is lost, and all others stop (default:"
        f" {Hosts.heartbeat})",
    )
    group.add_argument(
        "--start-timeout",
        type=int,
        default=Hosts.start,
        metavar="SECONDS",
        help=f"how long to wait for the other hosts at the start (default: {Hosts.start})",
    )


def from_arguments(parsed: argparse.Namespace) -> Hosts | None:
    """The hosts that the arguments name; None for one host alone.

    Raises:
        ConfigError: an argument is missing or does not fit the others.
    """
    explicit = {
        "--coordinator": parsed.coordinator,
        "--num-hosts": parsed.num_hosts,
        "--host": parsed.host,
    }
    given = [name for name, value in explicit.items() if value is not None]
    for name in ("heartbeat_timeout", "start_timeout"):
        if getattr(parsed, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1 second")
    limits = {"heartbeat": parsed.heartbeat_timeout, "start": parsed.start_timeout}
    if not given:
        return Hosts(**limits) if parsed.distributed else None
    if len(given) < len(explicit):
        missing = ", ".join(name for name in explicit if name not in given)
        raise ConfigError(f"{', '.join(given)} without {missing}: the three are given together")
    port = re.fullmatch(r".+:(\d{1,5})", parsed.coordinator)
    if port is None or not 0 < int(port[1]) < 2**16:
        raise ConfigError(
            f"--coordinator is {parsed.coordinator!r}; must be the address of host 0 and a free"
            " port there, of 1 to 65535, such as 10.0.0.1:1234"
        )
    if parsed.num_hosts < 1:
        raise ConfigError(f"--num-hosts is {parsed.num_hosts}; must be at least 1")
    if not 0 <= parsed.host < parsed.num_hosts:
        raise ConfigError(
            f"--host is {parsed.host}; with --num-hosts={parsed.num_hosts} hosts are numbered from"
            f" 0 to {parsed.num_hosts - 1}"
        )
    return Hosts(parsed.coordinator, parsed.num_hosts, parsed.host, **limits)


def start(hosts: Hosts) -> None:
    """Connects this process with the other hosts.

    Raises:
        ConfigError: JAX finds no cluster, the port of host 0 is in use, or this host's number is
            taken.
        LostHostError: the others cannot be reached in time.
    """
    if hosts.coordinator is not None and hosts.index == 0:
        _check_port(hosts.coordinator)
    elif hosts.coordinator is not None:
        _process.unknown = _why_unknown(hosts.coordinator)
    native.translate(_explained)
    _process.hosts = hosts
    import jax

    # Its handler of SIGTERM would take the place of vitjax's, which saves and stops on all hosts.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX waits in C++, where Python's handler of Ctrl-C does not run.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.count,
            hosts.index,
            initialization_timeout=hosts.start,
            heartbeat_timeout_seconds=hosts.heartbeat,
            shutdown_timeout_seconds=_SHUTDOWN,
            cluster_detection_method=None if hosts.coordinator is None else "deactivate",
        )
    except ValueError as error:
        raise ConfigError(
            f"--distributed: JAX finds no cluster here ({in_one_line(error)}). It looks for a TPU"
            " pod, Slurm (SLURM_JOB_ID, SLURM_PROCID; start by srun), Open MPI (mpirun) and"
            " Kubernetes; elsewhere give --coordinator=ADDRESS:PORT --num-hosts=N --host=I to each"
            " host"
        ) from error
    except RuntimeError as error:
        raise _not_started(hosts, str(error)) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)
    _process.connected = True


def _check_port(coordinator: str) -> None:
    """Raises ConfigError if host 0 cannot listen there; JAX ends by a segmentation fault."""
    port = int(coordinator.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            return  # JAX may find another way to listen
        raise ConfigError(
            f"--coordinator={coordinator}: host 0 cannot listen at port {port}"
            f" ({os.strerror(error.errno)}); choose another port, the same on all hosts"
        ) from error


def _why_unknown(coordinator: str) -> str:
    """Why host 0 has no address; a name may be given one while the hosts wait for each other."""
    name = coordinator.rpartition(":")[0].strip("[]")
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{name} had no address at the start: {reason}; "
    return ""


def _not_started(hosts: Hosts, text: str) -> UserError:
    """The error for what JAX reports when the hosts cannot be connected."""
    where = hosts.coordinator or "the coordinator that the cluster names"
    reason = _process.unknown + printable(text.partition("\n")[0][:200])
    if re.search("ALREADY_EXISTS|ABORTED|different incarnation|[Rr]estarted", text):
        return ConfigError(
            f"two hosts have the same number at {where}, or one was started again alone: give each"
            f" process another --host, and start all hosts again ({reason})"
        )
    if re.search("INVALID_ARGUMENT", text):
        return ConfigError(
            f"{where} does not accept this host: start all hosts with the same --num-hosts"
            f" ({reason})"
        )
    if hosts.index == 0:
        what = f"some of the {hosts.count} hosts did not connect to {where}"
    else:
        what = f"{where} cannot be reached, or not all hosts have connected to it"
    return LostHostError(
        f"{what} within {hosts.start} s (--start-timeout). Check that all hosts were started with"
        " the same --coordinator and --num-hosts, and that host 0's port is open to them"
        f" ({reason})"
    )


def started() -> bool:
    """Whether this process has started as one of several hosts."""
    return _process.hosts is not None


def lost(error: BaseException) -> LostHostError | None:
    """The error to report if another host is the reason of ``error``; None if it is not."""
    if not started() or isinstance(error, LostHostError):
        return None
    from jax.errors import JaxRuntimeError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, JaxRuntimeError) and _BROKEN.search(str(cause)):
            return LostHostError(_advice(printable(in_one_line(cause, 200))))
        cause = cause.__cause__ or cause.__context__
    return None


def claim_the_end() -> None:
    """Lets this thread alone report why the process ends; another may be about to."""
    if started():
        native.ending.acquire()


def end_process(status: int) -> None:
    """Ends a process that failed as one of several hosts, after its output was flushed.

    Python's usual end waits for all hosts, which wait for this one in their next step.
    """
    native.pass_on_all()
    if _process.connected and status != LOST:
        import jax

        time.sleep(_PATIENCE[min(jax.process_index(), 1)])
    os._exit(status)


def _explained(printed: str) -> tuple[str, int]:
    """What the last words of the service mean, in a line, and the exit status."""
    assert _process.hosts is not None
    if not _process.connected:
        problem = _not_started(_process.hosts, printed.partition("absl::Status: ")[2])
        return f"vitjax: {problem}", LOST if isinstance(problem, LostHostError) else 2
    silent = re.search(r"stopped sending heartbeats\):\s+(\d[\d\s,]*)", printed)
    silent = silent or re.search(r"Task (\d+) heartbeat timeout", printed)
    if silent:
        numbers = ", ".join(silent[1].replace(",", " ").split())
        what = f"no sign of life of host {numbers} for {_process.hosts.heartbeat} s"
    elif re.search("Socket closed|Failed to send RPC|Connection refused", printed):
        what = "host 0, which connects all hosts, has ended or cannot be reached"
    else:
        what = printable(printed.partition("absl::Status: ")[2].partition("\n")[0])[:200]
    return f"vitjax: {_advice(what)}", LOST


def _advice(what: str) -> str:
    return (
        f"another host of this run is lost, so this one stops too ({what}). Its own output says"
        " why; start all hosts again with the same commands: training resumes from the newest"
        " checkpoint"
    )
