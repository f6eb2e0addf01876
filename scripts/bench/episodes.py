"""Episodes per second: drawing index batches, looking up their images, reading images on demand.

    python scripts/bench/episodes.py                                # the table in docs/data.md
    python scripts/bench/episodes.py --data-dir /data/tfds          # also Omniglot
    python scripts/bench/episodes.py --path /data/miniimagenet      # also miniImageNet
    python scripts/bench/episodes.py --workers 2

Drawing runs NumPy in one thread. Looking up runs JAX on its default device, which holds the store.
Reading on demand is the loader with its threads or workers.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import timing  # type: ignore[import-not-found]

import vitjax.data

BEFORE = 6  # batches that fill the queue of the loader

GLYPHS = {"source": "glyphs", "classes": 1000}
OMNIGLOT_TRANSFORMS = "grayscale | resize((28, 28), interpolation='area') | invert"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of TFDS with omniglot")
    parser.add_argument("--path", help="folder of miniImageNet: train/<class>, val/<class>")
    parser.add_argument("--workers", type=int, default=0, help="worker processes that read images")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: 3)")
    timing.options(parser, rounds=3)
    arguments = parser.parse_args()
    report = timing.Report(arguments.json)
    kept = {"glyphs": GLYPHS}
    if arguments.data_dir:
        kept["omniglot"] = {
            "source": "tfds",
            "dataset": "omniglot",
            "data_dir": arguments.data_dir,
            "eval_transforms": OMNIGLOT_TRANSFORMS,
        }
    for name, section in kept.items():
        extra = {"class_split": "omniglot_finn"} if name == "omniglot" else {}
        for ways, shots, number in ((5, 1, 32), (20, 5, 16)):
            episodes = {"ways": ways, "shots": shots, "queries": 15, "rotations": "classes"}
            start = time.perf_counter()
            data = create(section, number, {**episodes, **extra}, arguments)
            timing.warn(f"{name}: ready in {time.perf_counter() - start:.1f} s")
            measure(name, data, "drawn", arguments, report)
            measure(name, data, "drawn and looked up", arguments, report)
    streamed = create(GLYPHS, 32, {"queries": 15, "in_memory": False}, arguments)
    measure("glyphs", streamed, "read on demand", arguments, report)
    if arguments.path:
        section = {
            "source": "folder",
            "path": arguments.path,
            "classes": "all",
            "train_transforms": "random_resized_crop(84) | flip",
        }
        data = create(section, 4, {"class_split": "miniimagenet_ravi"}, arguments)
        measure("miniimagenet", data, "read on demand", arguments, report)
    sinusoid = vitjax.data.create(
        source="sinusoid", batch_size=25, episodes={"shots": 10, "queries": 10}
    )
    measure("sinusoid", sinusoid, "drawn", arguments, report)
    report.print()


def create(section: dict[str, Any], number: int, episodes: dict[str, Any], arguments: Any) -> Any:
    return vitjax.data.create(
        **section, batch_size=number, episodes=episodes, workers=arguments.workers
    )


def measure(
    name: str, data: Any, what: str, arguments: argparse.Namespace, report: timing.Report
) -> None:
    """Reports one row."""
    protocol = data.protocol("train")
    shape = ", ".join(
        f"{protocol[key]} {key}" for key in ("ways", "shots", "queries") if key in protocol
    )

    def run(steps: int) -> float:
        with contextlib.closing(data.train_batches()) as batches:
            fed: Iterator[Any] = batches
            if what == "drawn and looked up":
                fed = (jax.block_until_ready(look_up(store, batch)) for batch in batches)
            for _ in range(BEFORE):
                next(fed)
            start = time.perf_counter()
            for _ in range(steps):
                next(fed)
            return time.perf_counter() - start

    if what == "drawn and looked up":
        store = jax.device_put(data.store)
        look_up = jax.jit(data.look_up)
    size = data.batch_size
    case = f"{name}, {shape}, {what}"
    times = timing.in_turn(
        {timing.OURS: run},
        rounds=arguments.rounds,
        least=arguments.seconds,
        warm_up=1,
        trial=24,
        label=case,
    )
    report.add(timing.Row("episodes", case, size, "episodes/s", size, times, ()))


if __name__ == "__main__":
    main()
