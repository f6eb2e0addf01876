"""Examples per second that the loader delivers, for pairs of source and pipeline.

    python scripts/bench/loader.py                    # the table of docs/data.md
    python scripts/bench/loader.py --workers 0 2 4 --batch-size 256
    python scripts/bench/loader.py --source folder --path /data/imagenet \
        --pipeline "random_resized_crop(224) | flip"

If PyTorch is installed, its DataLoader is measured with the same source and pipeline.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from PIL import Image

import vitjax.data
from vitjax.core.machine import process_cores

CIFAR = {"source": "synthetic", "image_size": 32, "examples": 50_000, "val_examples": 1}
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0, help="of measuring, each")
    parser.add_argument(
        "--source", help="instead of the table: a source, with --path if it has one"
    )
    parser.add_argument("--path")
    parser.add_argument("--pipeline", default="", help="with --source")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)  # as in a run
    versions = {p: importlib.metadata.version(p) for p in ("grain", "numpy", "pillow")}
    versions["opencv"] = importlib.metadata.version("opencv-python-headless")
    print(
        f"{platform.machine()}, {process_cores()} cores, Python {platform.python_version()},"
        f" {versions}"
    )
    print(f"{'source':<18} {'pipeline':<78} {'workers':>7} {'examples/s':>10}")
    if arguments.source:
        section = {"source": arguments.source}
        if arguments.path:
            section["path"] = arguments.path
        report(arguments.source, section, (arguments.pipeline,), arguments)
        return
    report("arrays 32x32x3", CIFAR, SMALL_PIPELINES, arguments)
    with TemporaryDirectory() as folder:
        write_jpegs(Path(folder))
        section = {"source": "folder", "path": folder, "val_fraction": 0, "test_fraction": 0}
        report("JPEG 500x375", section, LARGE_PIPELINES, arguments)


def report(
    name: str, section: dict[str, Any], pipelines: tuple[str, ...], arguments: argparse.Namespace
) -> None:
    """Prints a line for each pipeline and number of workers."""
    for pipeline in pipelines:
        for workers in arguments.workers:
            data = vitjax.data.create(
                **section,
                batch_size=arguments.batch_size,
                train_transforms=pipeline,
                eval_transforms=pipeline,
                workers=workers,
            )
            with data.train_batches() as batches:
                speed = measure(batches, arguments.batch_size, arguments.seconds)
            print(f"{name:<18} {pipeline or '(none)':<78} {workers:>7} {speed:>10,.0f}", flush=True)
            assert isinstance(data, vitjax.data.Data)
            peer = torch_loader(data, pipeline, arguments.batch_size, workers)
            if peer is not None:
                speed = measure(peer, arguments.batch_size, arguments.seconds)
                print(
                    f"{'':<18} {'  torch DataLoader':<78} {workers:>7} {speed:>10,.0f}", flush=True
                )


def measure(batches: Iterator[Any], batch_size: int, seconds: float) -> float:
    """Examples per second, after a warm-up in which workers start and buffers fill."""
    for _ in range(8):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(batches)
        count += batch_size
    return count / elapsed


class TorchDataset:
    """The training split, for PyTorch's DataLoader."""

    def __init__(self, data: vitjax.data.Data, pipeline: str):
        self.split = data.source.split("train")
        self.pipeline = vitjax.data.transforms.parse(pipeline)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        sample = self.pipeline(self.split.read(index), np.random.default_rng(index))
        assert sample.label is not None
        return np.ascontiguousarray(sample.image), int(sample.label)


def torch_loader(
    data: vitjax.data.Data, pipeline: str, batch_size: int, workers: int
) -> Iterator[Any] | None:
    """PyTorch's loader over the same examples, without end; None where PyTorch is not installed."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    loader = DataLoader(
        TorchDataset(data, pipeline),  # type: ignore[arg-type, unused-ignore]
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    return forever()


def write_jpegs(root: Path, count: int = 256) -> None:
    """Photograph-like JPEG files of ImageNet's usual size, in four class folders."""
    rng = np.random.default_rng(0)
    for index in range(count):
        folder = root / f"class{index % 4}"
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        image = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
        image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index}.jpg", quality=90)


if __name__ == "__main__":
    main()
