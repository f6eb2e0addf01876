"""A peer in a process of its own, with a Python of its own: JSON lines through a pipe.

The parent side (`Peer`) starts a program such as ``training_torch.py`` and asks it for steps; the
program's side (`serve`) answers. Only the standard library is needed on either side, so that the
peer's environment holds nothing of vitjax's.

The program's first line lists what it can run. Each request is ``{"run": name, "steps": number}``,
each answer ``{"seconds": number, ...}`` or ``{"error": text}``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Before vitjax makes its settings, which are not a peer's. Nor is what lies on the path of this
# Python's packages.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


class PeerError(RuntimeError):
    """A peer could not start, or failed."""


class Peer:
    """A program that runs in another process.

    Attributes:
        runs: the names of what it can run.
        missing: the reasons for what it lacks, by name.
        facts: further entries of its first line, such as versions.

    Args:
        python: the Python that runs it.
        program: a file of this folder.
        settings: JSON values that the program receives.
        arrays: NumPy arrays that it receives, by name.
        environment: additional variables.

    Raises:
        PeerError: it cannot start; the message says why, in one line.
    """

    def __init__(
        self,
        python: str,
        program: str,
        settings: Mapping[str, Any],
        arrays: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "arrays.npz"
        if arrays:
            import numpy as np

            np.savez(path, **arrays)
        try:
            self._process = subprocess.Popen(
                [python, str(HERE / program), json.dumps(dict(settings)), str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**_ENVIRONMENT, **(environment or {})},
            )
        except OSError as error:
            self._folder.cleanup()
            raise PeerError(f"{python} cannot be started: {error.strerror or error}") from error
        try:
            greeting = self._read()
        except PeerError:
            self.close()
            raise
        self.runs: list[str] = greeting.pop("runs")
        self.missing: dict[str, str] = greeting.pop("missing", {})
        self.facts: dict[str, Any] = greeting

    def ask(self, run: str, steps: int, **further: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            PeerError: the run failed, or the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"run": run, "steps": steps, **further}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError("its process has ended") from None
        return self._read()

    def seconds(self, run: str) -> Callable[[int], float]:
        """A function that takes a number of steps and returns their seconds."""
        return lambda steps: float(self.ask(run, steps)["seconds"])

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        with self._process:
            self._process.stdin.close()
        self._folder.cleanup()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"its process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


def python_with(package: str, given: str | None) -> str | None:
    """The Python that runs a peer: the given one, or this one if it has the package, or None."""
    if given:
        return given
    return sys.executable if importlib.util.find_spec(package) else None


def received() -> tuple[dict[str, Any], dict[str, Any]]:
    """The program's side: the settings and the arrays that the parent passed."""
    import numpy as np

    settings, path = json.loads(sys.argv[1]), sys.argv[2]
    if not os.path.exists(path):
        return settings, {}
    with np.load(path) as file:
        return settings, dict(file)


def serve(
    start: Callable[[], tuple[Mapping[str, Callable[..., Any]], dict[str, Any]]],
) -> None:
    """The program's side: answers requests until the parent closes the pipe.

    Args:
        start: called once; returns what can be run and the facts of the first line. A run takes a
            number of steps, and the further values of a request as keywords. It returns its
            seconds, or None to be timed here, or the answer as a dict.
    """
    # What else is printed must not get between the lines of the protocol.
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        runs, facts = start()
    except Exception as error:  # the parent reports it and measures the others
        say({"error": in_a_line(error)})
        return
    say({"runs": list(runs), **facts})
    for line in sys.stdin:
        request = json.loads(line)
        run, steps = runs[request.pop("run")], request.pop("steps")
        try:
            began = time.perf_counter()
            answer = run(steps, **request)
            seconds = time.perf_counter() - began
            answer = seconds if answer is None else answer
            say({"seconds": answer} if isinstance(answer, float) else answer)
        except Exception as error:  # the other runs continue
            say({"error": in_a_line(error)})


def in_a_line(error: Exception) -> str:
    """The error's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def options(parser: Any, *packages: Sequence[str]) -> None:
    """Adds ``--torch-python`` and its like: the Pythons of peers.

    Args:
        parser: receives the arguments.
        *packages: pairs of an option's stem and what the Python has to have.
    """
    for stem, needed in packages:
        variable = f"VITJAX_{stem.upper()}_PYTHON"
        parser.add_argument(
            f"--{stem}-python",
            default=os.environ.get(variable),
            metavar="PYTHON",
            help=f"a Python that has {needed} (default: ${variable}, else this one)",
        )
