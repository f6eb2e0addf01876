"""The arguments of several hosts, and what is said when one is lost."""

import socket

import pytest
from jax.errors import JaxRuntimeError

from vitjax.cli import hosts, main
from vitjax.cli.hosts import Hosts

THREE = ["--coordinator=h:1", "--num-hosts=2", "--host=1"]


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (THREE[:1], "--coordinator without --num-hosts, --host"),
        (THREE[1:], "--num-hosts, --host without --coordinator"),
        (["--coordinator=h", *THREE[1:]], "--coordinator is 'h'; must be the address of host 0"),
        (
            ["--coordinator=h:x", *THREE[1:]],
            "a free port there, of 1 to 65535, such as 10.0.0.1:1234",
        ),
        (["--coordinator=h:65536", *THREE[1:]], "a free port there, of 1 to 65535"),
        (["--coordinator=h:0", *THREE[1:]], "a free port there, of 1 to 65535"),
        (
            [*THREE[:2], "--host=2"],
            "--host is 2; with --num-hosts=2 hosts are numbered from 0 to 1",
        ),
        ([*THREE[:2], "--host=-1"], "--host is -1"),
        ([*THREE[:1], "--num-hosts=0", "--host=0"], "--num-hosts is 0; must be at least 1"),
        (["--distributed", "--heartbeat-timeout=0"], "--heartbeat-timeout must be at least 1"),
        (["--distributed", "--start-timeout=-1"], "--start-timeout must be at least 1"),
    ],
)
def test_flags_that_do_not_fit_are_told_before_anything_starts(
    command, arguments, words, tmp_path, capsys
):
    assert main([command, f"--workdir={tmp_path / 'run'}", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not hosts.started()


# As JAX 0.10.2 prints them.
SILENT = """\
E1130 00:44:40.036174   27983 coordination_service.cc:1549] [4586301700875774117] Use error polling
F1130 00:44:40.036719   27994 client.h:80] Terminating process because the JAX distributed service \
detected fatal errors. absl::Status: UNAVAILABLE: The following tasks are unhealthy (stopped \
sending heartbeats):
1
3
The tasks have crashed.
"""
WITHOUT_FIRST = """\
F1130 00:42:07.469002   26560 client.h:80] Terminating process because the JAX distributed service \
detected fatal errors. absl::Status: UNAVAILABLE: Failed to send RPC to coordination service.
:UNKNOWN:Error received from peer  {grpc_message:"Socket closed", grpc_status:14}
"""


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (SILENT, "no sign of life of host 1, 3 for 60 s"),
        (WITHOUT_FIRST, "host 0, which connects all hosts, has ended or cannot be reached"),
    ],
)
def test_the_end_by_the_service_is_explained(monkeypatch, printed, words):
    monkeypatch.setattr(hosts, "_process", hosts._Process(Hosts(), connected=True))
    line, status = hosts._explained(printed)
    assert status == hosts.LOST
    assert words in line
    assert len(line.splitlines()) == 1


# What JAX 0.10.2 reports before all hosts are connected.
LAST = (
    "F1130 00:42:07.469002   26560 client.h:80] Terminating process because the JAX distributed"
    " service detected fatal errors. absl::Status: {}\n\nRPC: /xla.coordination.Coordination"
    "Service/RegisterTask\n*** Check failure stack trace: ***\n    @  0x7f9c6d440634  absl::Log()\n"
)
TWICE = "ALREADY_EXISTS: Aborted connect attempt as there is a request from a newer incarnation."
TOO_MANY = "INVALID_ARGUMENT: Unexpected task registered with task=2"
LATE = "DEADLINE_EXCEEDED: Deadline Exceeded"


@pytest.mark.parametrize(
    ("reason", "index", "words", "status"),
    [
        (TWICE, 1, "two hosts have the same number at h:1, or", 2),
        (
            TOO_MANY,
            2,
            "h:1 does not accept this host: start all hosts with the same --num-hosts",
            2,
        ),
        (LATE, 0, "some of the 3 hosts did not connect to h:1 within 300 s", hosts.LOST),
        (LATE, 1, "h:1 cannot be reached, or not all hosts have connected", hosts.LOST),
        (LATE, None, "the coordinator that the cluster names cannot be reached", hosts.LOST),
    ],
)
def test_a_start_that_fails_is_explained(monkeypatch, reason, index, words, status):
    found = Hosts() if index is None else Hosts("h:1", 3, index)
    monkeypatch.setattr(hosts, "_process", hosts._Process(found))
    line, given = hosts._explained(LAST.format(reason))
    assert given == status
    assert words in line
    assert line.endswith(f"({reason})")
    assert "None" not in line


def test_a_name_without_an_address_is_told():
    assert "no-such-host.invalid had no address" in hosts._why_unknown("no-such-host.invalid:1")
    assert hosts._why_unknown("localhost:1") == hosts._why_unknown("[::1]:1") == ""


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_port_in_use_is_told_before_anything_starts(tmp_path, capsys, address):
    with socket.create_server((address, 0)) as used:
        port = used.getsockname()[1]
        arguments = f"--coordinator=localhost:{port}", "--num-hosts=2", "--host=0"
        assert main(["train", f"--workdir={tmp_path / 'run'}", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"host 0 cannot listen at port {port} (Address already in use)" in line
    assert not hosts.started()


@pytest.mark.parametrize(
    ("text", "of_another"),
    [
        ("Gloo all-reduce failed: Read error [::1]:49: Connection reset by peer", True),
        ("Gloo AllReduce failed: Connection closed by peer [127.0.0.1]:5", True),
        ("DEADLINE_EXCEEDED: Barrier timed out. Id: checkpoint", True),
        ("NCCL operation failed: remote process exited or there was a network error.", True),
        ("ABORTED: Barrier failed: task 1 heartbeat timeout", True),
        ("RESOURCE_EXHAUSTED: Out of memory in ncclAllReduce allocating 2 GiB", False),
        ("INTERNAL: NCCL operation ncclCommInitRank failed: unhandled cuda error", False),
        ("INVALID_ARGUMENT: a barrier of the coordination service has no name", False),
    ],
)
def test_an_error_of_this_host_is_not_taken_for_that_of_another(monkeypatch, text, of_another):
    monkeypatch.setattr(hosts, "_process", hosts._Process(Hosts(), connected=True))
    error = ValueError("outer")
    error.__cause__ = JaxRuntimeError(text)
    assert (hosts.lost(error) is not None) == of_another
