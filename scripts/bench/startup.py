"""Seconds from the command to the end of its first training step, cold and with compiled code kept.

    python scripts/bench/startup.py
    python scripts/bench/startup.py --config configs/digits/resnet.py --where

It runs ``vitjax train`` as a user does and waits for the line that reports the first step, whose
loss is then on the host. A cold run has an empty cache of compiled code; a warm one is a further
run with the same cache. Files of Python's packages are in memory in both, as after a first import.

--where prints where the time of a warm start goes: the imports above 50 ms (``-X importtime``), and
what JAX compiled or read from its cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import timing  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[2]
FIRST = re.compile(r"step 1/")


@contextlib.contextmanager
def started(config: str, folder: Path, cache: Path, python: list[str]) -> Iterator[Iterator[str]]:
    """The lines that a training prints; it is ended afterwards."""
    command = [sys.executable, *python, "-m", "vitjax", "train", f"--config={config}"]
    settings = {"train.log_every_steps": 1, "train.epochs": None, "train.steps": 1000}
    command += [f"--workdir={folder}", *(f"--config.{k}={v}" for k, v in settings.items())]
    environment: Mapping[str, str] = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def first_step(config: str, cache: Path) -> float:
    """Seconds until the first step is reported."""
    with tempfile.TemporaryDirectory() as folder:
        begun, printed = time.perf_counter(), []
        with started(config, Path(folder, "run"), cache, []) as lines:
            for line in lines:
                printed.append(line)
                if FIRST.match(line):
                    return time.perf_counter() - begun
    sys.exit("the training ended without a first step:\n" + "".join(printed))


def explain(config: str, cache: Path) -> None:
    """Prints the imports and compilations of a start."""
    with tempfile.TemporaryDirectory() as folder:
        imports, compiled = [], []
        os.environ["JAX_LOG_COMPILES"] = "1"
        with started(config, Path(folder, "run"), cache, ["-X", "importtime"]) as lines:
            for line in lines:
                if found := re.match(r"import time: +(\d+) \| +(\d+) \|( +)(.*)", line):
                    imports.append((int(found[2]) / 1e3, len(found[3]) // 2, found[4]))
                elif found := re.search(r"Finished XLA compilation of (.*) in ([\d.]+) sec", line):
                    compiled.append((1e3 * float(found[2]), found[1]))
                elif FIRST.match(line):
                    break
        del os.environ["JAX_LOG_COMPILES"]
    print("\nimports, ms with what they import:")
    for milliseconds, depth, name in imports:
        if milliseconds >= 50 and depth <= 3:
            print(f"  {milliseconds:8,.0f}  {'  ' * depth}{name}")
    total = sum(milliseconds for milliseconds, _ in compiled)
    print(f"compiled or read from the cache: {len(compiled)} programs in {total:,.0f} ms")
    for milliseconds, name in sorted(compiled, reverse=True)[:10]:
        print(f"  {milliseconds:8,.0f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/digits/vit.py")
    parser.add_argument("--where", action="store_true", help="print where the time goes")
    timing.options(parser, rounds=5)
    arguments = parser.parse_args()
    report = timing.Report(arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")

        def cold(steps: int) -> float:
            del steps
            shutil.rmtree(cache, ignore_errors=True)
            return first_step(arguments.config, cache)

        def warm(steps: int) -> float:
            del steps
            return first_step(arguments.config, cache)

        for name, run in (("cold", cold), ("warm", warm)):
            times = timing.in_turn(
                {timing.OURS: run}, rounds=arguments.rounds, warm_up=1, label=f"start, {name}"
            )
            case = f"start of {arguments.config}, {name}"
            report.add(timing.Row("start-up", case, None, "s", 1, times, ()))
        report.print()
        if arguments.where:
            explain(arguments.config, cache)


if __name__ == "__main__":
    main()
