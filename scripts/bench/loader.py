"""Examples per second that the loader delivers, for pairs of source and pipeline.

    python scripts/bench/loader.py                    # the table of docs/data.md
    python scripts/bench/loader.py --compared --torch-python /opt/torch/bin/python
    python scripts/bench/loader.py --workers 0 2 4 --batch-size 256
    python scripts/bench/loader.py --source folder --path /data/imagenet \
        --pipeline "random_resized_crop(224) | flip"

Two pipelines have a peer, and --compared measures these alone: PyTorch's DataLoader with as many
workers, over a Dataset that reads the same images with Pillow and transforms them by hand as
torchvision's RandomCrop, RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize do (see
``loader_torch.py``); torchvision is not needed. vitjax delivers bytes, which the training step
normalises on the device; PyTorch delivers normalised floats. With ``workers=0`` vitjax reads in
threads, PyTorch in the thread that trains.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import peer  # type: ignore[import-not-found]
import timing  # type: ignore[import-not-found]
from PIL import Image

import vitjax.data

CIFAR = {"source": "synthetic", "image_size": 32, "examples": 50_000, "val_examples": 1}
ARRAYS, JPEG = "arrays 32x32x3", "JPEG 500x400"
SMALL_PIPELINES = (
    "",
    "flip",
    "pad_and_crop(32, 4) | flip",
    "pad_and_crop(32, 4) | flip | random_erasing(0.25)",
    "pad_and_crop(32, 4) | flip | trivial_augment",
    "pad_and_crop(32, 4) | flip | rand_augment(2, 15)",
)
LARGE_PIPELINES = (
    "resize(256) | center_crop(224)",
    "random_resized_crop(224) | flip",
    "random_resized_crop(224) | flip | rand_augment(2, 15) | random_erasing(0.25)",
)
# Those that loader_torch.py has too, under these names.
COMPARED = {(ARRAYS, SMALL_PIPELINES[2]): "arrays", (JPEG, LARGE_PIPELINES[1]): "jpeg"}
TORCH = "PyTorch DataLoader"
BEFORE = 8  # batches in which workers start and buffers fill
TRIAL = 24  # batches that tell how long one takes: the first few are in buffers


class Loader:
    """vitjax's loader; a turn opens it again, so that nothing is read in between."""

    def __init__(self, section: dict[str, Any], pipeline: str, batch_size: int, workers: int):
        self._data = vitjax.data.create(
            **section,
            batch_size=batch_size,
            train_transforms=pipeline,
            eval_transforms=pipeline,
            workers=workers,
        )

    def run(self, steps: int) -> float:
        """Seconds of ``steps`` batches, after some that start workers and fill buffers."""
        with self._data.train_batches() as batches:
            for _ in range(BEFORE):
                next(batches)
            start = time.perf_counter()
            for _ in range(steps):
                next(batches)
            return time.perf_counter() - start


def measure(
    name: str,
    section: dict[str, Any],
    pipelines: tuple[str, ...],
    arguments: argparse.Namespace,
    report: timing.Report,
) -> None:
    """Reports a row for each pipeline and number of workers."""
    for pipeline in pipelines:
        counterpart = COMPARED.get((name, pipeline))
        if arguments.compared and counterpart is None:
            continue
        for workers in arguments.workers:
            size = arguments.batch_size
            runs = {timing.OURS: Loader(section, pipeline, size, workers).run}
            failed = {}
            with contextlib.ExitStack() as stack:
                python = peer.python_with("torch", arguments.torch_python)
                if counterpart and python:
                    settings = {"case": counterpart, "folder": section.get("path")}
                    settings |= {"batch_size": size, "workers": workers, "before": BEFORE}
                    try:
                        theirs = peer.Peer(python, "loader_torch.py", settings)
                        stack.callback(theirs.close)
                        runs[TORCH] = theirs.seconds("load")
                        report.packages |= theirs.facts["versions"]
                    except peer.PeerError as error:
                        failed[TORCH] = str(error)
                elif counterpart:
                    failed[TORCH] = "PyTorch is not installed here (--torch-python)"
                for reason in failed.values():
                    timing.warn(f"{TORCH} is left out: {reason}")
                case = f"{name}, {pipeline.replace(' | ', ', ') or 'no transforms'}"
                case += f", {workers} workers" if workers else ", no workers"
                times = timing.in_turn(
                    runs,
                    rounds=arguments.rounds,
                    least=arguments.seconds,
                    warm_up=1,
                    trial=TRIAL,
                    label=case,
                )
                times.failed.update(failed)
            peers = (TORCH,) if counterpart else ()
            report.add(timing.Row("input", case, size, "images/s", size, times, peers))


def write_jpegs(root: Path, count: int = 256) -> None:
    """Photograph-like JPEG files of ImageNet's usual size in four class folders, seeded."""
    rng = np.random.default_rng(0)
    for index in range(count):
        folder = root / f"class{index % 4}"
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (25, 32, 3), dtype=np.uint8))
        image = np.array(coarse.resize((500, 400), Image.Resampling.BICUBIC))
        for _ in range(8):
            color = tuple(int(value) for value in rng.integers(0, 256, 3))
            (x, y), radius = rng.integers(0, 400, 2).tolist(), int(rng.integers(10, 80))
            if rng.random() < 0.5:
                cv2.circle(image, (x, y), radius, color, -1)
            else:
                cv2.rectangle(image, (x, y), (x + 2 * radius, y + radius), color, -1)
        noisy = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: 3)")
    parser.add_argument(
        "--compared", action="store_true", help="only the pipelines that PyTorch has too"
    )
    parser.add_argument("--images", choices=("arrays", "jpeg"), help="only these of the table")
    parser.add_argument(
        "--source", help="instead of the table: a source, with --path if it has one"
    )
    parser.add_argument("--path")
    parser.add_argument("--pipeline", default="", help="with --source")
    timing.options(parser, rounds=3)
    peer.options(parser, ("torch", "PyTorch and Pillow"))
    arguments = parser.parse_args()
    cv2.setNumThreads(0)  # as in a run
    report = timing.Report(arguments.json)
    if arguments.source:
        section = {"source": arguments.source}
        if arguments.path:
            section["path"] = arguments.path
        measure(arguments.source, section, (arguments.pipeline,), arguments, report)
    if not arguments.source and arguments.images != "jpeg":
        measure(ARRAYS, CIFAR, SMALL_PIPELINES, arguments, report)
    if not arguments.source and arguments.images != "arrays":
        with TemporaryDirectory() as folder:
            write_jpegs(Path(folder))
            section = {"source": "folder", "path": folder, "val_fraction": 0, "test_fraction": 0}
            measure(JPEG, section, LARGE_PIPELINES, arguments, report)
    report.print()


if __name__ == "__main__":
    main()
