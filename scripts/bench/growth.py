"""How time and memory of a training step grow with batch, depth, width, image size and others.

    python scripts/bench/growth.py --json rows.jsonl              # 5 minutes on two cores
    python scripts/bench/growth.py --axes depth width
    python scripts/bench/plots.py rows.jsonl --images docs/images

Small networks, one quantity at a time. A step is the trainer's own, compiled as the trainer
compiles it. Memory is what XLA's analysis of the compiled step says of one device: arguments,
results and temporary values, of which arguments that are donated count once. Time is the median
over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import timing  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.training import experiment, flops, planning

VIT = {
    "name": "vit_ti16",
    "patch_size": 4,
    "width": 128,
    "depth": 4,
    "num_heads": 2,
    "mlp_width": 512,
}
DEVICES = 8


def vit(
    batch: int = 32, size: int = 32, devices: int = 1, rules: str = "replicate", **model: Any
) -> dict[str, Any]:
    """The config of a small ViT."""
    return {
        "model": {**VIT, **model},
        "data": {
            "source": "synthetic",
            "image_size": size,
            "num_classes": 10,
            "examples": max(batch, 10),
            "val_examples": 1,
            "batch_size": batch,
        },
        "objective": {"name": "classification"},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
        "train": {"steps": 1},
        "parallel": {"devices": devices, "rules": rules},
    }


def maml(inner_steps: int = 2, episodes: int = 4) -> dict[str, Any]:
    """The config of MAML on a small Conv4."""
    return {
        "model": {"name": "conv4_omniglot_pooled", "filters": 32},
        "data": {
            "source": "glyphs",
            "classes": 40,
            "batch_size": episodes,
            "episodes": {"ways": 5, "shots": 1, "queries": 15},
        },
        "objective": {"name": "maml", "inner_steps": inner_steps, "inner_learning_rate": 0.01},
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "train": {"steps": 1},
        "parallel": {"devices": 1},
    }


@dataclasses.dataclass(frozen=True)
class Axis:
    """A quantity that grows.

    Attributes:
        label: of it, for the figure.
        values: of it.
        config: for a value.
    """

    label: str
    values: tuple[int, ...]
    config: Callable[[int], dict[str, Any]]


AXES: Mapping[str, Axis] = {
    "batch": Axis("batch size, ViT", (4, 8, 16, 32, 64, 128), lambda n: vit(batch=n)),
    "depth": Axis("depth, ViT", (1, 2, 4, 8, 16), lambda n: vit(depth=n)),
    "width": Axis(
        "width, ViT",
        (64, 128, 256, 512),
        lambda n: vit(batch=8, width=n, mlp_width=4 * n, num_heads=n // 64),
    ),
    "size": Axis("image side, ViT", (16, 32, 64, 128), lambda n: vit(batch=4, size=n, depth=2)),
    "inner_steps": Axis("inner steps, MAML", (1, 2, 4, 8), lambda n: maml(inner_steps=n)),
    "episodes": Axis("episodes, MAML", (1, 2, 4, 8, 16), lambda n: maml(episodes=n)),
    "devices": Axis(
        "simulated devices, ViT, fsdp",
        (1, 2, 4, 8),
        lambda n: vit(batch=32, width=256, mlp_width=1024, devices=n, rules="fsdp"),
    ),
}


def measure(name: str, value: int, arguments: argparse.Namespace, report: timing.Report) -> None:
    """Reports a row for one value of an axis."""
    axis = AXES[name]
    built = experiment.build(axis.config(value))
    with contextlib.closing(built.batches_ahead(built.data.train_batches())) as batches:
        placed = next(batches)
    state = built.parallel.place_state(built.initial_state())
    step: Any = built.train_step()
    memory = planning.peak_bytes(step.lower(state, placed).compile().memory_analysis())

    def run(steps: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, placed)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    times = timing.in_turn(
        {timing.OURS: run}, rounds=arguments.rounds, least=0.1, label=f"{axis.label} {value}"
    )
    counted = flops.per_example(built.objective, built.abstract_state(), built.data.example_batch())
    notes = {"axis": name, "value": value, "memory_bytes": memory}
    size = built.data.batch_size
    report.add(
        timing.Row(
            "growth", f"{axis.label} {value}", size, "ms", 1, times, (), counted * size, notes
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    parser.add_argument("--most", type=int, help="leave out larger values")
    timing.options(parser, rounds=5)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "devices" in arguments.axes:
        jax.config.update("jax_num_cpu_devices", DEVICES)
    process.start_devices(cache=False)
    report = timing.Report(arguments.json)
    for name in arguments.axes:
        for value in AXES[name].values:
            if arguments.most is None or value <= arguments.most:
                measure(name, value, arguments, report)
    report.print()


if __name__ == "__main__":
    main()
