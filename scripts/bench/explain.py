r"""Time and memory of the methods of ``vitjax explain`` per image of 224 pixels.

    python scripts/bench/explain.py            # all methods, ResNet-50 and ViT-S/16
    python scripts/bench/explain.py --methods grad_cam,shap --models resnet50
    python scripts/bench/explain.py --json

A process per model and method makes the maps of one image again and again, five times or until 30
seconds are over, but at least once after the first. The first map has the time of compilation; the
time is the median of the others. The memory is by how much the resident memory of the process grows
at most from when it has the model's variables on (VmHWM of Linux), compilation included. Weights
are random: no time depends on their values.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import plan  # type: ignore[import-not-found]

from vitjax.cli import process

MODELS = ("resnet50", "vit_s16")
SIZE = 224
# Seconds of all maps after which no third one, nor a later one, is begun.
ENOUGH = 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", type=names, default=MODELS, help=f"of {', '.join(MODELS)}")
    parser.add_argument("--methods", type=names, help="names of vitjax.analysis.methods (all)")
    parser.add_argument("--repeats", type=int, default=5, help="maps after the first at most (5)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    process.prepare()
    process.start_devices(cache=False)
    if arguments.measure:
        (model,), (method,) = arguments.models, arguments.methods
        print(json.dumps(measured(model, method, arguments.repeats)))
        return
    if not arguments.json:
        print("| model | method | first map, s | map, s | memory, MB |\n|---|---|---:|---:|---:|")
    from vitjax.analysis.methods import METHODS

    for model in arguments.models:
        for method in arguments.methods or METHODS:
            row = in_a_process(model, method, arguments.repeats)
            if arguments.json:
                print(json.dumps(row), flush=True)
            elif "refused" not in row:
                numbers = f"{row['first']:.1f} | {row['seconds']:.2f} | {row['bytes'] / 1e6:,.0f}"
                print(f"| `{model}` | `{method}` | {numbers} |", flush=True)


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def in_a_process(model: str, method: str, repeats: int) -> dict[str, Any]:
    """What `measured` returns, with the names."""
    options = [f"--models={model}", f"--methods={method}", f"--repeats={repeats}", "--measure"]
    command = [sys.executable, __file__, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"model": model, "method": method, **json.loads(done.stdout.splitlines()[-1])}


def measured(model_name: str, method_name: str, repeats: int) -> dict[str, Any]:
    """The seconds of the first map, the median of the others, and bytes; or why there is none."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from vitjax import models
    from vitjax.analysis.methods import method
    from vitjax.core.errors import ConfigError

    model = models.create(model_name, num_classes=1000)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    jax.block_until_ready(variables)
    classes = jnp.array([3])
    before = plan.settled()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    seconds = []
    try:
        function = method(method_name).of(model)
        for _ in range(repeats + 1):
            start = time.perf_counter()
            jax.block_until_ready(function(variables, images, classes))
            seconds.append(time.perf_counter() - start)
            if len(seconds) > 1 and sum(seconds) > ENOUGH:
                break
    except ConfigError as error:
        return {"refused": str(error)}
    return {
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:]),
        "bytes": plan.resident("VmHWM") - before,
    }


if __name__ == "__main__":
    main()
