r"""Milliseconds of one second-order MAML step, compared with PyTorch and the usual JAX code.

    python scripts/bench/maml.py                                   # both cases
    python scripts/bench/maml.py --case omniglot --rounds 11 --json maml.jsonl
    python scripts/bench/maml.py --torch-python /opt/torch/bin/python

A step is the meta-gradient of a batch of 5-way 1-shot episodes, 15 queries per class, through 5
inner steps on Conv4 with batch statistics, and Adam's update. The cases are Omniglot's (28 x 28 x
1, 64 filters, 8 episodes) and miniImageNet's (84 x 84 x 3, 32 filters, 4 episodes); images are
noise. vitjax's side is the trainer's own step. The peers:

- ``torch autograd``: a loop over episodes of ``autograd.grad(create_graph=True)``, the images in
  PyTorch's own layout and in ``channels_last``;
- ``higher``; ``torch.func``: ``grad`` of ``vmap``;
- ``usual jax``: ``vmap`` over episodes of `flax.linen` layers.

All start from the same weights and must find the same loss. They take turns, round by round and
with a pause in between, so that other load on the machine affects all of them; the medians are
reported. Ratios are a peer's median divided by vitjax's: above 1, vitjax is faster. PyTorch runs in
a separate process, with this Python if PyTorch is installed, otherwise with --torch-python. Peers
that are not installed are named on stderr and skipped. A peer that takes more than 50 s per step is
timed once.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

# JAX would take three quarters of the GPU's memory at its start; here two frameworks share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from maml_peers import TORCH_PEERS, USUAL, Torch, UsualJax  # type: ignore[import-not-found]

from vitjax import models, parallel
from vitjax.cli import process
from vitjax.meta import Maml
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training import flops, summary
from vitjax.training.step import make_train_step

WAYS, SHOTS, QUERIES, INNER_STEPS, DEPTH = 5, 1, 15, 5, 4
# MAML's for miniImageNet. Larger ones let rounding grow until the losses cannot be compared.
RATE = 0.01
SLOW = 50.0  # seconds of a step, above which one round will do
LEAST = 0.2  # seconds that a round lasts at least
PAUSE = 0.5  # seconds between contestants: the threads of a pool spin on before they sleep
# In float32 losses after five steps agree to about 1e-4.
LOSS_TOLERANCE = {"float32": 0.01, "tf32": 0.05, "bfloat16": 0.2}

# By name, what JAX calls them.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32"}

Run = Callable[[int], tuple[float, float]]  # number of steps -> (seconds, the last step's loss)


def identity(images: Any) -> Any:
    """The images are the model's inputs already."""
    return images


@dataclasses.dataclass(frozen=True)
class Case:
    """The size of a computation, and how vitjax computes it.

    Attributes:
        inner_steps: of the inner loop.
        at_once: episodes that vitjax computes in parallel; None for what it chooses.
        conv_impl: of vitjax's convolutions.
    """

    name: str
    model: str
    side: int
    channels: int
    episodes: int
    dtype: str = "float32"
    inner_steps: int = INNER_STEPS
    at_once: int | None = None
    conv_impl: str = "auto"

    def batch(self) -> dict[str, Any]:
        """Episodes of noise, in the loader's format."""
        rng = np.random.default_rng(0)

        def part(examples: int) -> dict[str, np.ndarray]:
            shape = (self.episodes, WAYS * examples)
            labels = np.tile(
                np.repeat(np.arange(WAYS, dtype=np.int32), examples), (self.episodes, 1)
            )
            images = rng.normal(size=(*shape, self.side, self.side, self.channels))
            return {
                "input": images.astype(np.float32),
                "target": labels,
                "class": labels,
                "mask": np.ones(shape, bool),
            }

        mask = np.ones(self.episodes, bool)
        return {"support": part(SHOTS), "query": part(QUERIES), "mask": mask}

    def objective(self, **fields: Any) -> Maml:
        """MAML as implemented in vitjax."""
        fields = {"conv_impl": self.conv_impl, **fields}
        model = models.create(
            self.model,
            num_classes=WAYS,
            depth=DEPTH,
            head_init="xavier",
            dtype=self.dtype,
            **fields,
        )
        return Maml(
            model=model,
            num_classes=WAYS,
            normalize=identity,
            inner_steps=self.inner_steps,
            inner_learning_rate=RATE,
            episodes_at_once=self.at_once,
        )


CASES = {
    "omniglot": Case("omniglot", "conv4_omniglot_pooled", 28, 1, 8),
    "miniimagenet": Case("miniimagenet", "conv4", 84, 3, 4),
}


class Vitjax:
    """vitjax's side, compiled as the trainer compiles it.

    Attributes:
        variables: before the first step, on the host.
        memory: bytes of the temporary values of a step.
        flops: of the meta-gradient with plain convolutions, whichever form the step uses.
    """

    def __init__(self, case: Case):
        objective = case.objective()
        optimizer = Optimizer(optax.with_extra_args_support(optax.adam(1e-3)))
        batch = case.batch()
        variables = objective.init(jax.random.key(0), batch)
        self.variables = jax.device_get(variables)
        plain = case.objective(conv_impl="lax").gradients
        state = {k: v for k, v in variables.items() if k != "params"}
        self.flops = flops.count(plain, variables["params"], state, batch, jax.random.key(0))
        way = parallel.create(devices=1)
        opt_state = optimizer.init(variables["params"])
        self._state = way.place_state(TrainState.create(variables, opt_state, seed=0))
        self._batch = way.place_batch(batch)
        step: Any = way.compile(make_train_step(objective, optimizer), donate=True)
        self._step = step.lower(self._state, self._batch).compile()
        self.memory = self._step.memory_analysis().temp_size_in_bytes

    def run(self, steps: int) -> tuple[float, float]:
        """Takes ``steps`` steps: their seconds, and the loss of the last one."""
        start = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch)
        loss = float(metrics["loss"].value())
        return time.perf_counter() - start, loss


def gemm_peak() -> float:
    """FLOP/s of a product of two float32 matrices of 2048 x 2048, the best of several."""
    left = right = jnp.ones((2048, 2048))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(left, right))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(product(left, right))
        times.append(time.perf_counter() - start)
    return float(2 * 2048**3 / min(times))


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs all contestants in turn: {name: seconds of a step in each round}, and further facts."""
    ours = Vitjax(case)
    wanted = set(arguments.peers)
    python = arguments.torch_python if wanted & set(TORCH_PEERS) else None
    params, batch = ours.variables["params"]["model"], case.batch()
    settings = {"steps": case.inner_steps, "rate": RATE, "depth": DEPTH, "dtype": case.dtype}
    if arguments.precision:
        settings["precision"] = {"float32": "highest", "tf32": "high"}[arguments.precision]
    torch = Torch(python, params, batch, settings)
    runs: dict[str, Run] = {"vitjax": ours.run}
    runs |= {name: functools.partial(torch.run, name) for name in torch.peers if name in wanted}
    if USUAL in wanted:
        runs[USUAL] = UsualJax(params, batch, settings).run
    failed = {name: reason for name, reason in torch.missing.items() if name in wanted}
    for name, reason in failed.items():
        warn(f"{name} is skipped: {reason}")
    steps: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    expected = None
    for name, run in list(runs.items()):
        try:
            took, loss = run(1)
            expected = loss if expected is None else expected
            tolerance = LOSS_TOLERANCE[arguments.precision or case.dtype]
            if abs(loss - expected) > max(tolerance, LOSS_TOLERANCE[case.dtype]) * abs(expected):
                sys.exit(f"{name} finds a loss of {loss} where vitjax finds {expected}")
            # The first step of PyTorch warms up as well.
            took = took if took > SLOW else run(1)[0]
        except RuntimeError as error:
            warn(f"{name} is skipped: {error}")
            failed[name] = str(error)
            del runs[name]
            continue
        steps[name], seconds[name] = max(1, round(LEAST / took)), []
        if took > SLOW:
            seconds[name] = [took]
    peaks = []
    for number in range(1, arguments.rounds + 1):
        for name, run in runs.items():
            time.sleep(PAUSE)
            if not (seconds[name] and seconds[name][0] > SLOW):
                seconds[name].append(run(steps[name])[0] / steps[name])
        peaks.append(gemm_peak())
        shown = "  ".join(f"{name} {1e3 * times[-1]:,.1f}" for name, times in seconds.items())
        print(f"{case.name} round {number}: {shown} ms", flush=True)
    torch.close()
    rate = ours.flops / statistics.median(seconds["vitjax"])
    return {
        "seconds": seconds,
        "failed": failed,
        "torch": torch.version,
        "memory": ours.memory,
        "flops": ours.flops,
        "peak": max(peaks),
        "peak_fraction": rate / max(peaks),
    }


def as_json(case: Case, found: dict[str, Any], peers: list[str]) -> dict[str, Any]:
    """The case's line of ``--json``; null for peers that were not measured."""
    medians = {name: 1e3 * statistics.median(times) for name, times in found["seconds"].items()}
    ours = medians["vitjax"]
    return {
        "kind": "maml",
        "case": case.name,
        "batch": case.episodes,
        "unit": "ms",
        "values": {"vitjax": ours, **{name: medians.get(name) for name in peers}},
        "ratios": {name: [medians[name] / ours] if name in medians else None for name in peers},
        "gflops_per_step": found["flops"] / 1e9,
        "share_of_peak": found["peak_fraction"],
        "failed": found["failed"],
        "notes": {"memory_mib": found["memory"] / 2**20},
    }


def table(case: Case, found: dict[str, Any]) -> str:
    """The case in Markdown."""
    ours = statistics.median(found["seconds"]["vitjax"])
    lines = [
        f"\n{case.name}: {case.episodes} episodes, {case.dtype},"
        f" {found['flops'] / case.episodes / 1e9:.2f} GFLOP per episode; vitjax reaches"
        f" {found['peak_fraction']:.0%} of {found['peak'] / 1e9:,.0f} GFLOP/s and takes"
        f" {found['memory'] / 2**20:,.0f} MiB",
        "\n| | median, ms | least, ms | rounds | / vitjax |\n|---|---:|---:|---:|---:|",
    ]
    for name, times in found["seconds"].items():
        median, least = statistics.median(times), min(times)
        cells = f"{1e3 * median:,.1f} | {1e3 * least:,.1f} | {len(times)} | {median / ours:.2f}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def warn(text: str) -> None:
    """Prints a warning to stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    arguments = parse()
    if arguments.precision:
        jax.config.update("jax_default_matmul_precision", PRECISIONS[arguments.precision])
    process.start_devices()
    facts = summary.environment()
    packages = {name: facts["versions"][name] for name in ("vitjax", "jax", "flax")}
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{facts['device']}, Python {facts['versions']['python']}, {packages}")
    print(f"{date.today()}, revision {facts['git_revision']}{load}")
    for name in arguments.case:
        case = CASES[name]
        case = dataclasses.replace(
            case,
            episodes=arguments.episodes or case.episodes,
            dtype=arguments.dtype,
            inner_steps=arguments.inner_steps,
        )
        found = measure(case, arguments)
        print(table(case, found))
        if found["torch"]:
            print(f"\nPyTorch {found['torch']}")
        if arguments.json:
            with open(arguments.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(as_json(case, found, arguments.peers)) + "\n")


def parse() -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--episodes", type=int, help="in a batch (default: 8 and 4)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of float32 products on a GPU, on both sides (default: JAX's, which is TF32)",
    )
    parser.add_argument("--inner-steps", type=int, default=INNER_STEPS)
    parser.add_argument("--rounds", type=int, default=5, help="rounds per contestant (default: 5)")
    peers = [*TORCH_PEERS, USUAL]
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers, metavar="PEER")
    parser.add_argument(
        "--torch-python",
        default=os.environ.get("VITJAX_TORCH_PYTHON"),
        help="a Python that has PyTorch, and maybe higher (default: $VITJAX_TORCH_PYTHON)",
    )
    parser.add_argument("--json", metavar="FILE", help="append the cases to a file, as JSON lines")
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch"):
        arguments.torch_python = sys.executable
    return arguments


if __name__ == "__main__":
    main()
