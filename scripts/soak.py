"""Trains for long while it is killed again and again; compares bits, and watches the memory.

    python scripts/soak.py --steps=1000 --every=100

A ViT whose state is split over eight simulated devices (fsdp) is trained once without a
disturbance. A second run is ended by SIGKILL once in every 100 steps, at a random moment, and
resumed from its newest checkpoint, of which there is one every 50 steps. Its parameters, optimizer
state, metrics of every step and results must be those of the first run, bit for bit.

The memory of the first run's process is read every ten steps, after a garbage collection: the bytes
that glibc's allocator has given out, Python's blocks, JAX's arrays, and the resident bytes without
mapped files. Each one's lowest values in two parts of the last 80% of the steps are compared; the
first three must not grow by more than the limits below. The resident bytes are reported and not
judged. Freed memory is part of them, which vitjax makes the allocator keep, and which the library
of protocol buffers, of which TensorBoard's files are made, returns after every 10,000th message.

The exit status is 1 if something differs or the memory grows. A thousand steps take about ten
minutes on one core, and glibc 2.33 or later is needed. ``scripts/kill_test.py`` kills short runs of
many kinds.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts import kill_test  # noqa: E402

KIND = "fsdp on eight devices"
# What is read of the memory, in the order of the columns of the file.
COLUMNS = ("bytes in use", "Python's blocks", "JAX's arrays", "resident bytes")
# The growth that is allowed, from short runs: of the bytes in use per step (0.8 KB without
# checkpoints, and 10 KB per checkpoint), and of Python's blocks per checkpoint and array (6). The
# number of JAX's arrays must not grow.
BYTES_PER_STEP, BLOCKS_PER_ARRAY = 2048.0, 10.0


def main() -> int:
    """Runs the soak; returns the exit status."""
    import jax  # reads the environment, which is set after the imports above

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of each run (1000)")
    parser.add_argument("--every", type=int, default=100, help="steps between two kills (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parsed = parser.parse_args()
    if parsed.every < 2 or parsed.steps < max(50, parsed.every):
        parser.error("--every must be at least 2, and --steps at least 50 and at least --every")
    began, saved = time.monotonic(), max(1, parsed.every // 2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "config.py"
        config.write_text(kill_test.config_text(KIND, folder))
        whole, killed, memory = folder / "whole", folder / "killed", folder / "memory"
        lengths = {"last": parsed.steps, "saved": saved}
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        always = {**cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        done = kill_test.process(config, whole, {**always, "MEMORY": str(memory)}, **lengths)
        if done.returncode:
            print(f"the undisturbed run failed: {done.stderr.strip()}")
            return 1
        print(f"undisturbed: {parsed.steps} steps in {time.monotonic() - began:.0f} s", flush=True)
        leaves = len(jax.tree.leaves(kill_test.state_of(whole, parsed.steps)))
        limits = (BYTES_PER_STEP, BLOCKS_PER_ARRAY * leaves / saved, 0.0, math.inf)
        grows = report(np.loadtxt(memory), limits)
        # A process that is killed only reads the cache: half an entry would stay there.
        cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"
        chance, kills, lost = random.Random(parsed.seed), 0, 0
        for end in range(parsed.every, parsed.steps + 1, parsed.every):
            start = newest(killed)
            target = chance.randint(end - parsed.every + 1, end - 1)
            # At once in the last part, so that the run does not end before.
            seconds = chance.uniform(0, 0.4) if end + parsed.every <= parsed.steps else 0.0
            steps = max(1, target - start)
            done = kill_test.process(config, killed, cache, steps, seconds, **lengths)
            if done.returncode == -9:
                kills += 1
                lost += start + steps - newest(killed)
                print(f"killed {seconds:.2f} s after step {start + steps}", flush=True)
            elif done.returncode:
                print(f"a killed run cannot be resumed: {done.stderr.strip()}")
                return 1
        done = kill_test.process(config, killed, cache, **lengths)
        if done.returncode:
            print(f"a killed run cannot be resumed: {done.stderr.strip()}")
            return 1
        problem = kill_test.difference(whole, killed, parsed.steps)
        if not problem and kills != parsed.steps // parsed.every:
            problem = f"not killed {parsed.steps // parsed.every} times"
    minutes = (time.monotonic() - began) / 60
    print(
        f"{parsed.steps} steps, {kills} kills, {lost} steps taken again, {minutes:.1f} min:"
        f" {problem or 'the same bits'}; the memory"
        + (f" grows: {', '.join(grows)}" if grows else " does not grow")
    )
    return 1 if problem or grows else 0


def report(memory: np.ndarray, limits: Sequence[float]) -> list[str]:
    """Prints how the memory grows.

    Args:
        memory: of shape (samples, 4), as `COLUMNS`.
        limits: the growth per step that is allowed of each column.

    Returns:
        The columns that grow by more.
    """
    grows = []
    for name, values, most in zip(COLUMNS, memory.T, limits, strict=True):
        slope = growth(values)
        grows += [name] if slope > most else []
        first, fifth, last = (int(values[at]) for at in (0, len(values) // 5, -1))
        print(
            f"{name}: {first:,} after ten steps, {fifth:,} after a fifth, {last:,} at the end;"
            f" {slope:+,.2f} per step over the last 80% (at most {most:,.2f})",
            flush=True,
        )
    return grows


def growth(values: Sequence[float] | np.ndarray) -> float:
    """What a quantity grows by per step, from a sample every ten steps.

    The lowest sample of steps 60% to 100% is compared with that of steps 20% to 60%. A line through
    all of them would take a single fall for the lack of growth: the allocator returns memory now
    and then, and once what compilation took.
    """
    fifth = len(values) // 5
    first, second = np.asarray(values)[fifth : 3 * fifth], np.asarray(values)[3 * fifth :]
    return float((second.min() - first.min()) / (10 * len(second)))


def newest(folder: Path) -> int:
    """The step of a run's newest checkpoint; 0 without one."""
    entries = (folder / "checkpoints").glob("*")
    return max((int(entry.name) for entry in entries if entry.name.isdecimal()), default=0)


if __name__ == "__main__":
    os.environ.update(kill_test.ENVIRONMENT)
    sys.exit(main())
