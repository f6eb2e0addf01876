"""The arguments of several hosts, and what is said when one is lost."""

import pytest

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
        (["--coordinator=h:x", *THREE[1:]], "a free port there, such as 10.0.0.1:1234"),
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
    assert not hosts.several()


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
        ("F1130 00:42:07.469002 1 tensor.cc:80] Check failed: a == b", ""),
        ("", ""),
    ],
)
def test_the_end_by_the_service_is_explained(monkeypatch, printed, words):
    monkeypatch.setattr(hosts, "_this", hosts._This(Hosts(), connected=True))
    line = hosts._explained(printed)
    assert words in line
    assert (line == "") == (words == "")
    assert len(line.splitlines()) <= 1
