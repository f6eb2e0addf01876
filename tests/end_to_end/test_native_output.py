"""What native code prints on one of several hosts, and how such a process ends."""

import os
import signal
import subprocess
import sys

import pytest

# Before JAX is imported, as a command does it; the lines are as JAX 0.10.2 prints them.
SERVICE = "E1130 00:44:40.036174   27983 coordination_service_agent.cc:289] Polled an error"
LAST_WORDS = "F1130 00:44:40.036719   27994 client.h:80] Terminating process because of it"
PREPARED = f"""
import ctypes, os, signal, sys, threading, time
from vitjax.cli import native
native.translate(lambda words: (f"EXPLAINED {{len(words.splitlines())}} lines", 75))
SERVICE, LAST_WORDS = {SERVICE!r}, {LAST_WORDS!r}
def say(text, number=2):
    os.write(number, (text + "\\n").encode())
def abort():
    ctypes.CDLL(None).abort()
"""


def run(code, variables=None, stderr=subprocess.PIPE):
    """Status, standard output and standard error of a process that prepared its output so."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONU", "TF_CPP"))}
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        env={**environment, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_native_lines_are_passed_on_except_for_those_of_the_service(folder):
    status, output, errors = run("""
say("[Gloo] Rank 0 is connected to 1 peer ranks", 1)
say("libpng warning: iCCP")
say(SERVICE)
say("1")
say("The tasks have crashed. Check the task logs")
say("worker: Traceback")
say("NCCL INFO a line of standard output", 1)
print("python", flush=True)
os.write(2, b"without an end")
""")
    assert (status, output) == (0, "python\n")
    assert errors.splitlines() == [
        "libpng warning: iCCP",
        "worker: Traceback",
        "NCCL INFO a line of standard output",
        "without an end",
    ]
    assert not list(folder.iterdir())


def test_messages_that_the_user_has_asked_for_are_all_passed_on():
    status, _, errors = run("say(SERVICE)", {"TF_CPP_MIN_LOG_LEVEL": "0"})
    assert (status, errors) == (0, f"{SERVICE}\n")


def test_the_level_that_jax_sets_for_programs_that_it_starts_is_not_the_user_s_wish():
    status, _, errors = run("say(SERVICE)", {"TF_CPP_MIN_LOG_LEVEL": "1"})
    assert (status, errors) == (0, "")


def test_the_last_words_are_explained_although_much_was_printed_before(folder):
    status, output, errors = run("""
for _ in range(20_000):
    say(SERVICE + "." * 100)
print("python")
say(LAST_WORDS + "\\n1\\nThe tasks have crashed.\\n*** Check failure stack trace: ***")
threading.Thread(target=abort).start()
time.sleep(20)
""")
    assert (status, output) == (75, "python\n")
    assert errors == "EXPLAINED 4 lines\n"
    assert not list(folder.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
def test_a_full_disk_does_not_hide_the_last_words():
    code = "say('libpng warning')\nsay(LAST_WORDS)\ntime.sleep(5)"
    with open("/dev/full", "w") as full:
        assert run(code, stderr=full)[0] == 75


@pytest.mark.slow
def test_another_abort_is_shown_as_it_is():
    words = "F1130 00:44:40.036719 1 tensor.cc:8] Check failed: a == b"
    status, _, errors = run(f"say({words!r})\nthreading.Thread(target=abort).start()")
    assert (status, errors) == (-signal.SIGABRT, f"{words}\n")


def test_abort_ends_a_process_whose_python_is_stuck(folder):
    status, _, _ = run("""
say("last words")
library = ctypes.PyDLL(None)  # its functions keep Python's lock
library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
library.signal(signal.SIGALRM, ctypes.cast(library.abort, ctypes.c_void_p))
library.ualarm(1000, 0)
library.sleep(3600)
""")
    assert status == -signal.SIGABRT
    (kept,) = folder.iterdir()
    assert "last words" in kept.read_text()


def test_a_process_that_is_told_to_writes_without_buffers():
    code = "print('out')\nprint('err', file=sys.stderr)\nos.kill(os.getpid(), 9)"
    variables = {"PYTHONUNBUFFERED": "1"}
    assert run(code, variables) == (-signal.SIGKILL, "out\n", "err\n")


def test_tracebacks_of_crashes_are_not_lost():
    variables = {"PYTHONFAULTHANDLER": "1"}
    status, _, errors = run("import faulthandler; faulthandler._sigsegv()", variables)
    assert status == -signal.SIGSEGV
    assert errors.startswith("Fatal Python error: Segmentation fault")


# A command of one of several hosts that fails.
FAILING = """
from vitjax.cli import entry, hosts
hosts._process.hosts = hosts.Hosts()
def fail(*_):
    raise {error}
entry.train.COMMAND.__dict__["run"] = fail
sys.exit(entry.main(["train", "--workdir=x"]))
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
@pytest.mark.parametrize(
    ("error", "expected"),
    [("entry.ConfigError('no')", 2), ("OSError(28, 'full')", 2), ("RuntimeError('no')", 1)],
)
def test_a_full_disk_under_standard_error_hangs_no_host(error, expected):
    with open("/dev/full", "w") as full:
        assert run(FAILING.format(error=error), stderr=full)[0] == expected
