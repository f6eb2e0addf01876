"""How everything in this folder is timed, and what becomes of the times.

Contestants are warmed up, then take turns, round by round, so that what else happens on the machine
affects all of them. A row has the median over the rounds of each contestant, and for each peer the
median of the rounds' ratios with the least and the most. The rate of a matrix product is measured
in the same run, by JAX and by PyTorch, and tells which share of it a row reaches. A peer that is
missing is a null.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Run = Callable[[int], float]  # number of steps -> their seconds

OURS = "vitjax"
PAUSE = 0.5  # seconds between contestants: the threads of a pool spin on before they sleep
SLOW = 10.0  # seconds of a step, above which one round will do
GEMM = 2048  # side of the matrices whose product gives the peak
GEMM_FLOPS = 2 * GEMM**3
_GEMM_TRIES = 5


@dataclasses.dataclass
class Times:
    """What `in_turn` measured.

    Attributes:
        seconds: of a step, by contestant and round.
        failed: why contestants have no times.
        peaks: FLOP/s of a product of float32 matrices, by who computed it.
    """

    seconds: dict[str, list[float]]
    failed: dict[str, str]
    peaks: dict[str, float]


def in_turn(
    contestants: Mapping[str, Run],
    *,
    rounds: int,
    steps: int = 1,
    least: float = 0.0,
    warm_up: int = 2,
    trial: int = 1,
    peaks: Mapping[str, Run] | None = None,
    label: str = "",
) -> Times:
    """Times contestants, which take turns.

    Args:
        contestants: by name; a RuntimeError of one excludes it.
        rounds: turns of each.
        steps: of a turn.
        least: the seconds that a turn lasts at least; it has more steps if they are fast.
        warm_up: turns before the first round, of which the first compiles.
        trial: steps of these.
        peaks: compute matrix products, see `gemm_by_jax`; one turn each per round.
        label: stands before the lines that are printed, one per round; none without.
    """
    times = Times({}, {}, {})
    runs, turn = dict(contestants), dict.fromkeys(contestants, trial)

    def measure(name: str) -> float | None:
        """Seconds of a step; None if the contestant failed, which excludes it."""
        try:
            return runs[name](turn[name]) / turn[name]
        except RuntimeError as error:
            times.failed[name] = str(error)
            times.seconds.pop(name, None)
            warn(f"{name} is left out: {error}")
            del runs[name]
            return None

    for name in contestants:
        took = measure(name)
        for number in range(1, warm_up):
            # The first turn compiles, which tells nothing of how slow a step is.
            if took is not None and (number == 1 or took <= SLOW):
                took = measure(name)
        if took is not None:
            turn[name] = max(steps, round(least / max(took, 1e-9)))
            # Another round of what is that slow tells nothing new.
            times.seconds[name] = [took] if took > SLOW else []
    for number in range(1, rounds + 1):
        for name in list(runs):
            if times.seconds[name] and times.seconds[name][0] > SLOW:
                continue
            time.sleep(PAUSE)
            took = measure(name)
            if took is not None:
                times.seconds[name].append(took)
        for name, run in (peaks or {}).items():
            time.sleep(PAUSE)
            rate = GEMM_FLOPS / min(run(1) for _ in range(_GEMM_TRIES))
            times.peaks[name] = max(rate, times.peaks.get(name, 0.0))
        if label:
            shown = "  ".join(f"{name} {1e3 * s[-1]:,.4g}" for name, s in times.seconds.items())
            warn(f"{label} round {number}: {shown} ms")
    return times


def gemm_by_jax() -> Run:
    """Multiplies two float32 matrices by JAX."""
    import jax
    import jax.numpy as jnp

    left = right = jnp.ones((GEMM, GEMM))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(left, right))

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(product(left, right))
        return time.perf_counter() - start

    return run


def gemm_by_torch(device: str = "cpu") -> Run:
    """Multiplies two float32 matrices by PyTorch."""
    import torch

    left = right = torch.ones((GEMM, GEMM), device=device)

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            product = left @ right
        product[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    run(1)
    return run


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        kind: the part of the table, such as "training".
        case: what is computed.
        batch: examples of a step; None if the case has no batch.
        unit: a rate such as "images/s", or "ms" or "s" per step.
        amount: what a step does, in the unit's first part: images, MB.
        times: of vitjax and its peers.
        peers: names of all peers, also of those that are missing.
        flops: of a step; None where products are not what it does.
        notes: further facts, JSON values.
    """

    kind: str
    case: str
    batch: int | None
    unit: str
    amount: float
    times: Times
    peers: tuple[str, ...]
    flops: float | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values: medians in its unit, ratios above 1 where vitjax is faster."""
        seconds = self.times.seconds
        ours = seconds.get(OURS)
        ratios: dict[str, Any] = {}
        for name in self.peers:
            theirs = seconds.get(name)
            ratios[name] = None
            if ours and theirs:
                # One that is slow has one round.
                each = [b / a for a, b in zip(*_as_often(ours, theirs), strict=True)]
                ratios[name] = [statistics.median(each), min(each), max(each)]
        peak = max(self.times.peaks.values(), default=None)
        share = None
        if ours and peak and self.flops:
            share = self.flops / statistics.median(ours) / peak
        return {
            "kind": self.kind,
            "case": self.case,
            "batch": self.batch,
            "unit": self.unit,
            "values": {
                name: self._in_unit(statistics.median(seconds[name])) if name in seconds else None
                for name in (OURS, *self.peers)
            },
            "ratios": ratios,
            "gflops_per_step": self.flops / 1e9 if self.flops else None,
            "gemm_peaks": self.times.peaks,
            "share_of_peak": share,
            "rounds": len(ours or ()),
            "failed": self.times.failed,
            "notes": dict(self.notes),
        }

    def _in_unit(self, seconds: float) -> float:
        if self.unit.endswith("/s"):
            return self.amount / seconds
        return seconds * {"s": 1.0, "ms": 1e3}[self.unit]


def _as_often(*sides: list[float]) -> list[list[float]]:
    """Times of which some have one round alone, with those repeated."""
    rounds = max(map(len, sides))
    return [side * rounds if len(side) == 1 else side for side in sides]


class Report:
    """Collects the rows of a run; prints them, and appends them to a file as JSON lines.

    Args:
        path: the file; None for none.
        packages: versions of peers, by package.
    """

    def __init__(self, path: str | Path | None = None):
        self._path, self._rows = path, list[dict[str, Any]]()
        self.packages: dict[str, str] = {}

    def add(self, row: Row) -> None:
        """Adds a row, and writes it at once."""
        facts = {
            "command": command(),
            "time": datetime.now().isoformat(timespec="seconds"),
            **machine(),
        }
        facts["versions"] = {**facts["versions"], **self.packages}
        found = {**row.as_json(), **facts}
        self._rows.append(found)
        if self._path:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")

    def print(self) -> None:
        """Prints the machine and the table."""
        if self._rows:
            print(text(self._rows))


def command() -> str:
    """The command line of this run, without where results and peers lie."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if skip:
            skip = False
        elif word in ("--json", *(f"--{stem}-python" for stem in ("torch", "equimo"))):
            skip = True
        elif not word.startswith(("--json=", "--torch-python=", "--equimo-python=")):
            words.append(word)
    return shlex.join(["python", f"scripts/bench/{Path(sys.argv[0]).name}", *words])


def machine() -> dict[str, Any]:
    """Date, device, cores, versions, revision and load."""
    from vitjax.core.machine import process_cores
    from vitjax.training import summary

    facts = summary.environment()
    return {
        "date": datetime.now().date().isoformat(),
        "device": facts["device"],
        "processor": processor(),
        "cores": process_cores(),
        "versions": {name: facts["versions"][name] for name in ("python", "vitjax", "jax", "flax")},
        "revision": facts["git_revision"],
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        import platform

        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def latest(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; of several of one case and batch, the last."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            found[row["kind"], row["case"], row["batch"]] = row
    return list(found.values())


def text(rows: list[dict[str, Any]]) -> str:
    """The machine and the rows in Markdown."""
    return f"{heading(rows)}\n\n{table(rows)}"


def heading(rows: list[dict[str, Any]]) -> str:
    """Machine, date, versions and the matrix product's rates, which all rows share."""
    dates = sorted({row["date"] for row in rows})
    versions: dict[str, str] = {}
    for row in rows:
        versions |= row["versions"]
    first = rows[0]
    peaks: dict[str, float] = {}
    for row in rows:
        for name, rate in row["gemm_peaks"].items():
            peaks[name] = max(rate, peaks.get(name, 0.0))
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s by {name}" for name, rate in peaks.items())
    where = first["processor"] if first["device"].startswith("CPU") else first["device"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{where}, {first['cores']} cores; {' to '.join(dict.fromkeys((dates[0], dates[-1])))};"
        f" {listed}." + (f" Product of {GEMM} x {GEMM} float32 matrices: {rates}." if rates else "")
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| case | batch | unit | vitjax | others | ratio | share of peak |",
        "|---|---:|---|---:|---|---|---:|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)])


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row's cells: case, batch, unit, vitjax, others, ratios, share; nulls are dashes."""
    others = {name: value for name, value in row["values"].items() if name != OURS}
    share = row["share_of_peak"]
    return [
        row["case"],
        str(row["batch"] or "-"),
        row["unit"],
        digits(row["values"][OURS]),
        "<br>".join(f"{name} {digits(value)}" for name, value in others.items()) or "-",
        "<br>".join(_ratio(row["ratios"][name]) for name in others) or "-",
        f"{share:.0%}" if share else "-",
    ]


def _ratio(found: list[float] | None) -> str:
    if not found:
        return "-"
    median, least, most = found
    return f"{median:.2f} ({least:.2f} to {most:.2f})"


def digits(value: float | None) -> str:
    """A number with three digits at least; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def warn(line: str) -> None:
    """Prints a line to stderr."""
    print(line, file=sys.stderr, flush=True)


def options(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Adds ``--rounds`` and ``--json``."""
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"turns of each contestant (default: {rounds})"
    )
    parser.add_argument("--json", metavar="FILE", help="append the rows to a file, as JSON lines")
