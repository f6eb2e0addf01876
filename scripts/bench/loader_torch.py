"""PyTorch's side of `scripts/bench/loader.py`: DataLoaders as users write them.

The transforms are torchvision's RandomCrop or RandomResizedCrop, RandomHorizontalFlip, ToTensor and
Normalize, written with Pillow and PyTorch, of which torchvision makes them too. It serves a
`peer.Peer`.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer import received, serve  # type: ignore[import-not-found]
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, RandomSampler

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def uniform(low: float, high: float) -> float:
    """A random number of PyTorch's generator, as torchvision draws it."""
    return float(torch.empty(1).uniform_(low, high))


def finished(image: Image.Image) -> torch.Tensor:
    """Flipped or not, as a normalised tensor."""
    if uniform(0, 1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return pixels.float().div_(255).sub_(MEAN).div_(STD)


class Arrays(Dataset):  # type: ignore[misc, type-arg, unused-ignore]
    """Images in memory, padded by 4 pixels and cropped."""

    def __init__(self, count: int):
        self._images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = ImageOps.expand(Image.fromarray(self._images[index]), 4)
        top, left = (int(i) for i in torch.randint(0, 9, (2,)))
        return finished(image.crop((left, top, left + 32, top + 32))), index % 10


class Folder(Dataset):  # type: ignore[misc, type-arg, unused-ignore]
    """JPEG files in folders of classes; a random part of each is resized to 224 pixels."""

    def __init__(self, root: Path):
        self._files = sorted(root.glob("*/*.jpg"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with open(self._files[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        box = random_part(*image.size)
        image = image.resize((224, 224), Image.Resampling.BILINEAR, box=box)
        return finished(image), index % 4


def random_part(width: int, height: int) -> tuple[int, int, int, int]:
    """The box of RandomResizedCrop: 8% to 100% of the area, sides of 3:4 to 4:3."""
    for _ in range(10):
        area = width * height * uniform(0.08, 1.0)
        ratio = math.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(torch.randint(0, width - w + 1, (1,)))
            top = int(torch.randint(0, height - h + 1, (1,)))
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    settings, _ = received()
    arrays = settings["case"] == "arrays"
    data: Any = Arrays(50_000) if arrays else Folder(Path(settings["folder"]))
    loader = DataLoader(
        data,
        batch_size=settings["batch_size"],
        # No epoch ends within a turn.
        sampler=RandomSampler(data, replacement=True, num_samples=10**7),
        num_workers=settings["workers"],
        persistent_workers=settings["workers"] > 0,
    )

    def load(steps: int) -> float:
        batches = iter(loader)
        for _ in range(settings["before"]):
            next(batches)
        start = time.perf_counter()
        for _ in range(steps):
            next(batches)
        return time.perf_counter() - start

    return {"load": load}, {"versions": {"torch": torch.__version__}}


if __name__ == "__main__":
    serve(_start)
