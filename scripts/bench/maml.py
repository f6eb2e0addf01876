r"""Milliseconds of one second-order MAML step, compared with PyTorch and the usual JAX code.

    python scripts/bench/maml.py                                   # both cases
    python scripts/bench/maml.py --case omniglot --rounds 11 --json rows.jsonl
    python scripts/bench/maml.py --torch-python /opt/torch/bin/python

A step is the meta-gradient of a batch of 5-way 1-shot episodes, 15 queries per class, through 5
inner steps on Conv4 with batch statistics, and Adam's update. The cases are Omniglot's (28 x 28 x
1, 64 filters, 8 episodes) and miniImageNet's (84 x 84 x 3, 32 filters, 4 episodes); images are
noise. vitjax's side is the trainer's own step. The peers:

- ``torch autograd``: a loop over episodes of ``autograd.grad(create_graph=True)``, the images in
  PyTorch's own layout and in ``channels_last``;
- ``higher``; ``torch.func``: ``grad`` of ``vmap``;
- ``usual jax``: ``vmap`` over episodes of `flax.linen` layers.

All start from the same weights and must find the same loss. How they take turns, and what a row
has, is in ``timing.py``: ratios are a peer's time divided by vitjax's, so above 1 vitjax is faster.
PyTorch runs in a process of its own, with this Python if PyTorch is installed, otherwise with
--torch-python. Peers that are not installed are named on stderr and are nulls.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# JAX would take three quarters of the GPU's memory at its start; here two frameworks share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import optax
import peer  # type: ignore[import-not-found]
import timing  # type: ignore[import-not-found]
from flax.traverse_util import flatten_dict
from maml_peers import TORCH_PEERS, USUAL, UsualJax  # type: ignore[import-not-found]

from vitjax import models, parallel
from vitjax.cli import process
from vitjax.meta import Maml
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training import flops
from vitjax.training.step import make_train_step

WAYS, SHOTS, QUERIES, INNER_STEPS, DEPTH = 5, 1, 15, 5, 4
# MAML's for miniImageNet. Larger ones let rounding grow until the losses cannot be compared.
RATE = 0.01
LEAST = 0.2  # seconds that a round lasts at least
# In float32 losses after five steps agree to about 1e-4.
LOSS_TOLERANCE = {"float32": 0.01, "tf32": 0.05, "bfloat16": 0.2}
# Of float32 products: what JAX and PyTorch call them.
PRECISIONS = {"float32": ("highest", "highest"), "tf32": ("tensorfloat32", "high")}

Run = Callable[[int], tuple[float, float]]  # number of steps -> (seconds, the last step's loss)


def identity(images: Any) -> Any:
    """The images are the model's inputs already."""
    return images


@dataclasses.dataclass(frozen=True)
class Case:
    """The size of a computation, and how vitjax computes it.

    Attributes:
        inner_steps: of the inner loop.
        filters: of each convolution; None for the model's own number.
        precision: of float32 products, a key of `PRECISIONS`; None for JAX's default.
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
    filters: int | None = None
    precision: str | None = None
    at_once: int | None = None
    conv_impl: str = "auto"

    def describe(self) -> str:
        """The case in words, for the table."""
        words = f"MAML, {self.name}, {self.inner_steps} inner steps"
        number = self.precision or self.dtype
        return words if number == "float32" else f"{words}, {number}"

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
        if self.filters:
            fields["filters"] = self.filters
        model = models.create(
            self.model,
            num_classes=WAYS,
            depth=DEPTH,
            head_init="xavier",
            dtype=self.dtype,
            **{"conv_impl": self.conv_impl, **fields},
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


def torch_peers(
    case: Case, ours: Vitjax, settings: dict[str, Any], arguments: argparse.Namespace
) -> peer.Peer:
    """PyTorch's process.

    Raises:
        PeerError: PyTorch is not installed.
    """
    python = peer.python_with("torch", arguments.torch_python)
    if python is None:
        raise peer.PeerError("PyTorch is not installed here (--torch-python)")
    gpu = jax.default_backend() == "gpu"
    batch = case.batch()
    arrays = {
        "params": ours.variables["params"]["model"],
        **{name: batch[name] for name in ("support", "query")},
    }
    # XLA computes float32 products in TF32 by default on GPUs that have it.
    _, precision = PRECISIONS[case.precision or ("tf32" if gpu else "float32")]
    settings = {
        **settings,
        "device": "cuda" if gpu else "cpu",
        "precision": precision,
        "peers": [name for name in arguments.peers if name in TORCH_PEERS],
    }
    return peer.Peer(python, "maml_torch.py", settings, flatten_dict(arrays, sep="/"))


def measure(case: Case, arguments: argparse.Namespace, report: timing.Report) -> None:
    """Times a case and reports its row."""
    ours = Vitjax(case)
    settings = {"steps": case.inner_steps, "rate": RATE, "depth": DEPTH, "dtype": case.dtype}
    expected: list[float] = []
    tolerance = LOSS_TOLERANCE["tf32" if case.precision == "tf32" else case.dtype]

    def checked(name: str, run: Run) -> timing.Run:
        """``run`` without the loss, which has to be vitjax's in the first step."""
        first = True

        def seconds(steps: int) -> float:
            nonlocal first
            took, loss = run(steps)
            if first:
                expected.append(loss)
                first = False
                if abs(loss - expected[0]) > tolerance * abs(expected[0]):
                    sys.exit(f"{name} finds a loss of {loss} where vitjax finds {expected[0]}")
            return took

        return seconds

    runs = {timing.OURS: checked(timing.OURS, ours.run)}
    peaks, missing = {"JAX": timing.gemm_by_jax()}, dict[str, str]()
    with contextlib.ExitStack() as stack:
        if wanted := [name for name in arguments.peers if name in TORCH_PEERS]:
            try:
                torch = torch_peers(case, ours, settings, arguments)
            except peer.PeerError as error:
                missing = dict.fromkeys(wanted, str(error))
            else:
                stack.callback(torch.close)
                missing, peaks["PyTorch"] = torch.missing, torch.seconds("gemm")
                report.packages |= torch.facts["versions"]
                for name in wanted:
                    if name in torch.runs:
                        ask = functools.partial(_asked, torch, name)
                        runs[name] = checked(name, ask)
        if USUAL in arguments.peers:
            usual = UsualJax(ours.variables["params"]["model"], case.batch(), settings)
            runs[USUAL] = checked(USUAL, usual.run)
        for name, reason in missing.items():
            timing.warn(f"{name} is left out: {reason}")
        times = timing.in_turn(
            runs,
            rounds=arguments.rounds,
            least=LEAST,
            peaks=peaks,
            label=case.name,
        )
    times.failed.update(missing)
    report.add(
        timing.Row(
            "few-shot",
            case.describe(),
            case.episodes,
            "ms",
            1,
            times,
            tuple(arguments.peers),
            ours.flops,
            {"memory_mib": ours.memory / 2**20},
        )
    )


def _asked(torch: peer.Peer, name: str, steps: int) -> tuple[float, float]:
    answer = torch.ask(name, steps)
    return answer["seconds"], answer["loss"]


def main() -> None:
    arguments = parse()
    process.start_devices()
    report = timing.Report(arguments.json)
    for name in arguments.case:
        case = dataclasses.replace(
            CASES[name],
            episodes=arguments.episodes or CASES[name].episodes,
            dtype=arguments.dtype,
            inner_steps=arguments.inner_steps,
            filters=arguments.filters,
            precision=arguments.precision,
        )
        precise: Any = contextlib.nullcontext()
        if case.precision:
            precise = jax.default_matmul_precision(PRECISIONS[case.precision][0])
        with precise:
            measure(case, arguments, report)
    report.print()


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
    parser.add_argument("--filters", type=int, help="of each convolution (default: the case's)")
    timing.options(parser, rounds=5)
    peers = [*TORCH_PEERS, USUAL]
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers, metavar="PEER")
    peer.options(parser, ("torch", "PyTorch, and maybe higher"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
