"""What ``vitjax plan`` says of memory on a CPU, beside what runs take.

    python scripts/bench/plan.py                 # the table of docs/plan.md
    python scripts/bench/plan.py digits/vit --json

A process per case compiles the step, returns its free memory to the system, and then creates the
state and takes three steps, with batches read ahead as in training. Measured is by how much its
resident memory grows at most from there on (VmHWM of Linux). The plan is the total on one device.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax.cli import process

# Large enough that a step takes much more than what the process has anyway.
CASES = {
    "digits/vit": ["data.batch_size=1024"],
    "digits/resnet": ["data.batch_size=1024", "model.width=64"],
    "segmentation/cells": ["data.batch_size=32"],
    "maml/glyphs": ["data.image_size=84", "objective.inner_steps=3", "model.filters=128"],
}
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    process.prepare()
    process.start_devices()
    if arguments.measure:
        print(json.dumps(measured(arguments.cases[0])))
        return
    if not arguments.json:
        print("| config | with | plan | measured | plan / measured |\n|---|---|---|---|---|")
    for name in arguments.cases:
        row = {"config": name, "with": CASES[name], "plan": planned(name)}
        row["measured"] = in_a_process(name)
        row["ratio"] = row["plan"] / row["measured"]
        if arguments.json:
            print(json.dumps(row), flush=True)
        else:
            plan, found = (f"{row[key] / 1e6:,.0f} MB" for key in ("plan", "measured"))
            keys = ", ".join(f"`{key}`" for key in CASES[name])
            print(f"| `{name}` | {keys} | {plan} | {found} | {row['ratio']:.2f} |", flush=True)


def loaded(name: str) -> Any:
    config = configs.load(name)
    configs.override(config, [f"--config.{override}" for override in CASES[name]])
    config.parallel = {"devices": 1}
    return config


def planned(name: str) -> int:
    """Bytes by the plan."""
    from vitjax.training import planning

    return planning.make(loaded(name), search=False, say=lambda text: None).memory.total


def in_a_process(name: str) -> int:
    """Bytes that a run takes."""
    command = [sys.executable, __file__, name, "--measure"]
    # Each array has pages of its own, which return to the system when it is freed. Otherwise the
    # run uses what compiling has freed, and less is measured than it takes.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measured(name: str) -> int:
    """Bytes by which this process grows when it trains."""
    import jax
    import jax.numpy as jnp

    from vitjax.training import experiment as experiments

    experiment = experiments.build(loaded(name))
    parallel = experiment.parallel
    first = parallel.place_state(experiment.initial_state())
    with contextlib.closing(batches_of(experiment)) as batches:
        lowered: Any = experiment.train_step()
        step = lowered.lower(first, next(batches)).compile()
    # Everything that is compiled is compiled, and ``first`` is no part of what is measured.
    jax.block_until_ready(jax.tree.map(jnp.copy, first))
    before = settled()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    state = jax.tree.map(jnp.copy, first)
    again = dataclasses.replace(experiment)  # places what it keeps on the device again
    with contextlib.closing(batches_of(again)) as batches:
        for _ in range(STEPS):
            state, metrics = step(state, next(batches))
            jax.block_until_ready(metrics)
    return resident("VmHWM") - before


def settled() -> int:
    """Resident bytes, once nothing more is returned to the system.

    What is freed now would be used again by the run, and not be measured. Threads that read ahead
    free their batches a while after their iterator is closed, the later the busier the machine is.
    """
    least = resident("VmRSS")
    while True:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        time.sleep(0.5)
        now = resident("VmRSS")
        if now > least - 1e6:
            return now
        least = now


def batches_of(experiment: Any) -> Any:
    """Placed batches, as the training loop reads them."""
    return experiment.batches_ahead(experiment.data.train_batches())


def resident(key: str) -> int:
    """Bytes of memory of this process."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
