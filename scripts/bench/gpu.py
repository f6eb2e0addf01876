"""Runs the parts of ``scripts/bench/gpu.sh``, and writes their results as they come.

    bash scripts/bench/gpu.sh [--out=bench_gpu] [--budget=480] [--data=cifar10.npz] [--dry-run]

The folder of results gets ``results.jsonl`` (the facts of the machine, then a line per part),
``table.md`` and ``log.txt`` (what the parts printed). Parts share a process. A part that fails or
takes too long ends it and leaves nulls and its log; the next one starts another. Parts that the
budget does not suffice for, or whose needs are missing, are nulls with a reason. A second run with
the same folder keeps what is measured and fills the nulls; the folder ``compiled`` keeps compiled
code, so that it takes less time.

``auto`` is decided in one place for each choice: the mapping of episodes in
`vitjax.meta.mapping.pieces`, the form of convolutions in inner loops by
`vitjax.nn.convolution.INNER_LOOP_IMPL`. The table says what it takes beside what wins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import gpu_parts  # type: ignore[import-not-found]

from vitjax.core import atomic

# Seconds for the check of the needs, and between a polite end of a part and a hard one.
CHECK_LIMIT, GRACE = 90.0, 5.0
# A dry run's networks compile quickly and compute slowly.
DRY_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false"
)
TITLES = {
    "training": "A training step in bfloat16 at 224 pixels",
    "maml": "A MAML step",
    "choices": "Mapping of episodes and form of convolutions in a MAML step",
    "cifar10": "CIFAR-10",
    "tests": "Tests on the GPU",
}


class Results:
    """The results of a folder: what earlier runs measured, and what this one adds.

    Attributes:
        folder: of the files.
        facts: of the machine.
        parts: each part's line, by name.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], parts: list[Any]):
        self.folder, self.facts = folder, facts
        self._order = parts
        self.parts: dict[str, dict[str, Any]] = {}
        path = folder / "results.jsonl"
        if path.exists():
            first, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            for key in ("dry_run", "device", "revision", "versions", "peers"):
                if first[key] != facts[key]:
                    sys.exit(
                        f"{path} has results of another {key.replace('_', ' ')} ({first[key]}, not"
                        f" {facts[key]}): give another folder with --out"
                    )
            self.parts = {line["part"]: line for line in lines if line["status"] == "done"}
        self._write()

    def add(self, part: Any, status: str, reason: str | None, seconds: float, rows: Any) -> None:
        """Adds a part's result, and writes it at once."""
        self.parts[part.name] = {
            "part": part.name,
            "status": status,
            "reason": reason,
            "seconds": round(seconds, 1),
            "time": datetime.now().isoformat(timespec="seconds"),
            "table": part.table,
            "rows": rows,
        }
        self._write()

    def _write(self) -> None:
        lines = [self.facts, *self.parts.values()]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        atomic.write_text(self.folder / "results.jsonl", text)
        atomic.write_text(self.folder / "table.md", self.markdown())

    def markdown(self) -> str:
        """All tables, with null where nothing was measured, and why."""
        facts = self.facts
        versions = {**facts["versions"], **facts["peers"]}
        listed = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
        lines = [
            f"{facts['device'] or 'no device'}, driver: {facts['driver'] or 'none'};"
            f" {facts['date']}, revision {facts['revision']}; Python {facts['python']}, {listed}."
        ]
        if facts["dry_run"]:
            lines.append("\n**A dry run: tiny networks on a CPU; its figures mean nothing.**")
        for table, columns in gpu_parts.COLUMNS.items():
            lines += ["", f"## {TITLES[table]}", "", f"| | {' | '.join(columns)} |"]
            lines.append(f"|---|{'---:|' * len(columns)}")
            for part in self._order:
                if part.table == table:
                    rows = self.parts.get(part.name, {}).get("rows") or part.empty()
                    for name, cells in rows.items():
                        shown = " | ".join(in_words(column, cells[column]) for column in columns)
                        lines.append(f"| {name} | {shown} |")
        reasons = [
            f"- {line['part']}: {line['reason']}" for line in self.parts.values() if line["reason"]
        ]
        waiting = [part.name for part in self._order if part.name not in self.parts]
        reasons += [f"- not run yet: {', '.join(waiting)}"] if waiting else []
        lines += ["", "Why cells are null:", "", *reasons] if reasons else []
        return "\n".join(lines) + "\n"


def in_words(column: str, value: Any) -> str:
    """A cell of the table."""
    if value is None:
        return "" if column == "goal" else "null"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column == "MFU":
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"
    return str(value)


class Worker:
    """Runs programs one after the other in a process, ``gpu_worker.py``.

    The process has a group of its own, which ends with it. It ends if a program fails; the next
    program starts another one.

    Attributes:
        log: the file that receives what they print.
        environment: of the programs.
    """

    def __init__(self, log: Path, environment: dict[str, str]):
        self.log, self.environment = log, environment
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, arguments: list[str], limit: float, output: Path) -> str | None:
        """Runs a program; returns why it failed, or None.

        Args:
            name: of the part, for the log.
            arguments: of Python.
            limit: seconds until it is ended.
            output: receives what it prints; the log does as well.
        """
        started = time.monotonic()
        output.touch()
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = json.dumps({"arguments": arguments, "output": str(output)})
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{request}\n".encode())
            process.stdin.flush()
        if select.select([process.stdout], [], [], limit)[0]:
            answer = process.stdout.readline()
            status = json.loads(answer) if answer else process.wait()
            reason = None if answer and status == 0 else f"it ended with status {status}"
        else:
            reason = f"it took more than {limit:.0f} s"
        if reason:
            self.close()
        text = output.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if reason and lines:
            reason += f" ({lines[-1].strip()[:200]})"
        with open(self.log, "a", encoding="utf-8") as log:
            took = time.monotonic() - started
            log.write(f"==== {name}: {took:.1f} s\n$ python {shlex.join(arguments)}\n{text}\n")
        return reason

    def close(self) -> None:
        """Ends the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(gpu_parts.HERE / "gpu_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
            cwd=gpu_parts.ROOT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, and all that it started."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)


def main() -> None:
    arguments = parse()
    # The part that runs ends with this process: it has a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    sizes = gpu_parts.TINY if arguments.dry_run else gpu_parts.REAL
    data = os.path.abspath(arguments.data) if arguments.data else None
    parts = gpu_parts.create(sizes, data)
    names = [part.name for part in parts]
    if unknown := sorted(set(arguments.parts or ()) - set(names)):
        sys.exit(f"--parts: there is no {', '.join(unknown)}; parts are {', '.join(names)}")
    worker = Worker(out / "log.txt", environment(out, arguments.dry_run))
    with contextlib.closing(worker):
        facts = check(arguments, worker)
        results = Results(out, facts, parts)
        missing = facts["missing"]
        for part in parts:
            if results.parts.get(part.name, {}).get("status") == "done":
                print(f"{part.name}: measured already", flush=True)
                continue
            left = arguments.budget - (time.monotonic() - began)
            needed = [need for need in part.needs if need in missing]
            started = time.monotonic()
            rows, status, reason = part.empty(), "skipped", None
            if needed:
                reason = missing[needed[0]]
            elif arguments.parts and part.name not in arguments.parts:
                reason = "--parts leaves it out"
            elif left < min(part.expected, arguments.budget / 2):
                reason = (
                    f"{max(left, 0):.0f} s of {arguments.budget:.0f} s were left, and it takes"
                    f" about {part.expected:.0f} s; run again with the same --out"
                )
            else:
                print(f"{part.name} ...", flush=True)
                rows, status, reason = measure(part, worker, min(part.limit, left - 2 * GRACE))
            seconds = time.monotonic() - started
            results.add(part, status, reason, seconds, rows)
            print(
                f"{part.name}: {status}{f' ({reason})' if reason else ''}, {seconds:.0f} s",
                flush=True,
            )
    print(f"\n{results.markdown()}")
    print(f"{time.monotonic() - began:.0f} s; {out / 'table.md'}, results.jsonl and log.txt")


def measure(part: Any, worker: Worker, limit: float) -> tuple[Any, str, str | None]:
    """Runs a part: its rows, its status, and why cells are null."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = {"{json}": str(folder / "part.jsonl"), "{folder}": name}
        command = []
        for argument in part.arguments:
            for key, value in values.items():
                argument = argument.replace(key, value)
            command.append(argument)
        own = Worker(worker.log, worker.environment) if part.alone else worker
        try:
            reason = own.run(part.name, command, limit, folder / "output.txt")
        finally:
            if part.alone:
                own.close()
        rows = part.empty()
        try:
            found = part.read(folder)
        except gpu_parts.NoResult as error:
            return rows, "failed", reason or str(error)
        except (LookupError, TypeError, ValueError, OSError) as error:
            words = f"its result cannot be read ({type(error).__name__}: {error})"
            return rows, "failed", reason or words
        for row, cells in found.items():
            rows[row] = {**rows[row], **cells}
        failed = failures(folder)
        return rows, "failed" if reason else "done", reason or failed


def failures(folder: Path) -> str | None:
    """Why a part's peers were not measured, from its line."""
    path = folder / "part.jsonl"
    if not path.exists():
        return None
    failed = {k: why for line in gpu_parts.lines(folder) for k, why in line["failed"].items()}
    return "; ".join(f"{name}: {why}" for name, why in failed.items()) or None


def environment(out: Path, dry_run: bool) -> dict[str, str]:
    """The variables of all parts: ``out`` keeps compiled code, the GPU's memory is shared."""
    variables = dict(os.environ)
    variables["JAX_COMPILATION_CACHE_DIR"] = str(out.resolve() / "compiled")
    variables["TORCHINDUCTOR_CACHE_DIR"] = str(out.resolve() / "compiled" / "torch")
    variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    variables["PYTHONUNBUFFERED"] = "1"
    if dry_run:
        variables["JAX_PLATFORMS"] = "cpu"
        variables["CUDA_VISIBLE_DEVICES"] = ""
        variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} {DRY_FLAGS}".strip()
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        variables["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    return variables


def check(arguments: argparse.Namespace, worker: Worker) -> dict[str, Any]:
    """Checks the needs, prints what is there, and returns the facts."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "facts.json"
        command = [str(gpu_parts.HERE / "gpu_needs.py"), f"--facts={path}"]
        command += [f"--data={arguments.data}"] if arguments.data else []
        command += ["--dry-run"] if arguments.dry_run else []
        reason = worker.run("needs", command, CHECK_LIMIT, Path(name) / "output.txt")
        print((Path(name) / "output.txt").read_text(encoding="utf-8", errors="replace"), flush=True)
        found: dict[str, Any] = {
            "python": sys.version.split()[0],
            **{"driver": None, "device": None, "versions": {}, "peers": {}},
            "missing": {"gpu": f"the check of the needs failed: {reason}"},
        }
        if reason is None:
            found = json.loads(path.read_text(encoding="utf-8"))
    revision = subprocess.run(
        ["git", "-C", str(gpu_parts.ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
    )
    return {
        **found,
        "date": datetime.now().date().isoformat(),
        "revision": revision.stdout.strip() or None,
        "dry_run": arguments.dry_run,
        "budget": arguments.budget,
    }


def parse() -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="gpu.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out",
        default=os.environ.get("OUT", "bench_gpu"),
        help="folder of the results (default: $OUT, or bench_gpu)",
    )
    parser.add_argument(
        "--budget", type=float, default=480, help="seconds for all parts (default: 480)"
    )
    parser.add_argument("--data", metavar="FILE", help="cifar10.npz; null without")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these")
    parser.add_argument("--dry-run", action="store_true", help="tiny networks on a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
