r"""Memory and time of a ViT's training step, by how it is computed and where its state lives.

    python scripts/bench/memory.py                       # remat, scan, donation, dtype
    python scripts/bench/memory.py --model vit_s16 --batch-size 32
    python scripts/bench/memory.py --meshes              # ViT-L on eight simulated devices

The memory is XLA's analysis of the compiled step: its arguments, results and temporary values,
without the results that take the place of arguments. The step is the trainer's own, with AdamW;
with --meshes also with a moving average, and it is compiled alone: nothing is allocated.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import timing  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.training import experiment, planning

DEVICES = 8
MESHES: tuple[Mapping[str, Any], ...] = (
    {"devices": 1},
    {"mesh": {"data": 8}},
    {"mesh": {"data": 2, "fsdp": 4}},
    {"mesh": {"fsdp": 8}},
    {"mesh": {"fsdp": 4, "model": 2}},
    {"mesh": {"fsdp": 2, "model": 4}},
)


class Step:
    """A compiled training step of a ViT.

    Args:
        model: the section of a config.
        parallel: the section of a config.
        batch_size: examples of a step.
        donate: whether the new state takes the place of the old one.
        ema: whether the state has a moving average.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        parallel: Mapping[str, Any],
        batch_size: int,
        *,
        donate: bool = True,
        ema: bool = False,
    ):
        data = {"source": "synthetic", "image_size": 224, "num_classes": 1000}
        train = {"steps": 1, **({"ema_decay": 0.999} if ema else {})}
        self._built = experiment.build(
            {
                "model": model,
                "data": {**data, "examples": 1000, "val_examples": 1, "batch_size": batch_size},
                "optimizer": {"name": "adamw", "learning_rate": 1e-4},
                "train": train,
                "parallel": parallel,
            }
        )
        state, example = self._built.abstract_state(), self._built.data.example_batch()
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), example
        )
        compiled: Any = self._built.train_step(donate=donate)
        self._step = compiled.lower(state, batch).compile()
        self._state: Any = None

    @property
    def bytes(self) -> dict[str, int]:
        """The bytes per device: ``state``, ``temporary`` and, at the peak, ``all``."""
        found = self._step.memory_analysis()
        return {
            "state": found.argument_size_in_bytes,
            "temporary": found.temp_size_in_bytes,
            "all": planning.peak_bytes(found),
        }

    def run(self, steps: int) -> float:
        """The seconds of ``steps`` steps."""
        if self._state is None:
            parallel = self._built.parallel
            self._state = parallel.place_state(self._built.initial_state())
            self._batch = parallel.place_batch(next(self._built.data.train_batches()))
        start = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start


def compare_forms(arguments: argparse.Namespace) -> None:
    """Prints a table of remat, scan, donation and dtype."""
    options = itertools.product(
        ("float32", "bfloat16"), (False, True), ("none", "dots", "full"), (True, False)
    )
    steps = {}
    for dtype, scan, remat, donate in options:
        model = {"name": arguments.model, "dtype": dtype, "scan_layers": scan, "remat": remat}
        cells = (dtype, "yes" if scan else "no", remat, "yes" if donate else "no")
        steps[" | ".join(cells)] = Step(model, {}, arguments.batch_size, donate=donate)
        timing.warn(f"compiled {len(steps)} of 24")
    times = timing.in_turn(
        {name: step.run for name, step in steps.items()},
        rounds=arguments.rounds,
        label=arguments.model,
    )
    print("| dtype | scan | remat | donated | memory, MB | step, ms |\n|---|---|---|---|---:|---:|")
    for name, step in steps.items():
        milliseconds = 1e3 * statistics.median(times.seconds[name])
        print(f"| {name} | {step.bytes['all'] / 1e6:,.0f} | {milliseconds:,.0f} |")


def compare_meshes(arguments: argparse.Namespace) -> None:
    """Prints a table of the memory per device on several meshes."""
    print("| mesh | state, MB | temporary, MB |\n|---|---:|---:|")
    for parallel in MESHES:
        model = {"name": "vit_l16", "scan_layers": True}
        held = Step(model, parallel, 2 * DEVICES, ema=True).bytes
        axes = ", ".join(f"`{axis}={size}`" for axis, size in parallel.get("mesh", {}).items())
        state, temporary = (f"{held[part] / 1e6:,.0f}" for part in ("state", "temporary"))
        print(f"| {axes or 'one device'} | {state} | {temporary} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="vit_ti16", help="a ViT (default: vit_ti16)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="of each form (default: 3)")
    parser.add_argument("--meshes", action="store_true", help="memory per device of a ViT-L")
    arguments = parser.parse_args()
    if arguments.meshes:
        jax.config.update("jax_num_cpu_devices", DEVICES)
    process.start_devices(cache=False)  # as a run does
    if arguments.meshes:
        compare_meshes(arguments)
    else:
        compare_forms(arguments)


if __name__ == "__main__":
    main()
