"""Trains for long while it is killed again and again; compares bits, and watches the memory.

    python scripts/soak.py --steps=1000 --every=100

A ViT whose state is split over eight simulated devices (fsdp) is trained once without a
disturbance. A second run is ended by SIGKILL once in every 100 steps, at a random moment, and
resumed from its newest checkpoint, of which there is one every 50 steps. Its parameters, optimizer
state, metrics of every step and results must be those of the first run, bit for bit. The resident
memory of the first run's process, without mapped files, is read every ten steps, after a garbage
collection: its lowest values in two parts of the last 80% of the steps must not grow by more than
``--growth`` bytes per step.

The exit status is 1 if something differs or the memory grows. A thousand steps take a few minutes
on one core. ``scripts/kill_test.py`` kills short runs of many kinds.
"""

import argparse
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


def main() -> int:
    """Runs the soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of each run (1000)")
    parser.add_argument("--every", type=int, default=100, help="steps between two kills (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument(
        "--growth", type=float, default=16384, help="of memory, in bytes per step (at most 16384)"
    )
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
        resident = np.loadtxt(memory)
        slope = growth(resident)
        print(
            f"undisturbed: {parsed.steps} steps in {time.monotonic() - began:.0f} s; resident"
            f" memory {resident[0] / 2**20:.1f} MiB after ten steps,"
            f" {resident[len(resident) // 5] / 2**20:.1f} after a fifth,"
            f" {resident[-1] / 2**20:.1f} at the end; {slope:+.0f} bytes per step"
            " over the last 80%",
            flush=True,
        )
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
        f" {problem or 'the same bits'}"
    )
    return 1 if problem or slope > parsed.growth else 0


def growth(resident: Sequence[float] | np.ndarray) -> float:
    """Bytes per step by which the memory grows, from a sample every ten steps.

    The lowest sample of steps 60% to 100% is compared with that of steps 20% to 60%. A line through
    all of them would take a single fall for the lack of growth: the allocator returns memory now
    and then, and once what compilation took.
    """
    fifth = len(resident) // 5
    first, second = np.asarray(resident)[fifth : 3 * fifth], np.asarray(resident)[3 * fifth :]
    return float((second.min() - first.min()) / (10 * len(second)))


def newest(folder: Path) -> int:
    """The step of a run's newest checkpoint; 0 without one."""
    entries = (folder / "checkpoints").glob("*")
    return max((int(entry.name) for entry in entries if entry.name.isdecimal()), default=0)


if __name__ == "__main__":
    os.environ.update(kill_test.ENVIRONMENT)
    sys.exit(main())
