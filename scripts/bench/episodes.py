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
import importlib.metadata
import platform
import time
from collections.abc import Iterator
from typing import Any

import jax

import vitjax.data

GLYPHS = {"source": "glyphs", "classes": 1000}
OMNIGLOT_TRANSFORMS = "grayscale | resize((28, 28), interpolation='area') | invert"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of TFDS with omniglot")
    parser.add_argument("--path", help="folder of miniImageNet: train/<class>, val/<class>")
    parser.add_argument("--workers", type=int, default=0, help="worker processes that read images")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each measurement")
    arguments = parser.parse_args()
    versions = {p: importlib.metadata.version(p) for p in ("jax", "numpy", "grain")}
    device = jax.devices()[0].device_kind
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}, {device}")
    print(f"{'data':<12} {'episodes':<34} {'what':<22} {'episodes/s':>10} {'batches/s':>10}")
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
            say(name, "", f"ready in {time.perf_counter() - start:.1f} s")
            report(name, data, "drawn", arguments)
            report(name, data, "drawn and looked up", arguments)
    streamed = create(GLYPHS, 32, {"queries": 15, "in_memory": False}, arguments)
    report("glyphs", streamed, "read on demand", arguments)
    if arguments.path:
        section = {
            "source": "folder",
            "path": arguments.path,
            "classes": "all",
            "train_transforms": "random_resized_crop(84) | flip",
        }
        data = create(section, 4, {"class_split": "miniimagenet_ravi"}, arguments)
        report("miniimagenet", data, "read on demand", arguments)
    sinusoid = vitjax.data.create(
        source="sinusoid", batch_size=25, episodes={"shots": 10, "queries": 10}
    )
    report("sinusoid", sinusoid, "drawn", arguments)


def create(section: dict[str, Any], number: int, episodes: dict[str, Any], arguments: Any) -> Any:
    return vitjax.data.create(
        **section, batch_size=number, episodes=episodes, workers=arguments.workers
    )


def report(name: str, data: Any, what: str, arguments: argparse.Namespace) -> None:
    """Prints one line."""
    protocol = data.protocol("train")
    shape = ", ".join(
        f"{protocol[key]} {key}" for key in ("ways", "shots", "queries") if key in protocol
    )
    with contextlib.closing(data.train_batches()) as batches:
        fed: Iterator[Any] = batches
        if what == "drawn and looked up":
            store = jax.device_put(data.store)
            look_up = jax.jit(data.look_up)
            fed = (jax.block_until_ready(look_up(store, batch)) for batch in batches)
        speed = measure(fed, arguments.seconds)
    say(name, f"{data.batch_size} of {shape}", what, speed * data.batch_size, speed)


def say(name: str, shape: str, what: str, episodes: float = 0, batches: float = 0) -> None:
    numbers = f" {episodes:>10,.0f} {batches:>10,.0f}" if batches else ""
    print(f"{name:<12} {shape:<34} {what:<22}{numbers}", flush=True)


def measure(batches: Iterator[Any], seconds: float) -> float:
    """Batches per second, after some that fill the queue of the loader."""
    for _ in range(6):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(batches)
        count += 1
    return count / elapsed


if __name__ == "__main__":
    main()
