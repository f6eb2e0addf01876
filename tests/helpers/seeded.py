"""Weights of a network from a seed, the same in every process: files of them are not needed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence

import numpy as np


def weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """An array for each name of PyTorch's, in float64, each a number of single precision.

    Kernels keep the size of activations after a ReLU. Statistics and scales are other than trivial.

    Args:
        shapes: of the arrays.
        seed: of all of them.
    """
    found = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("running_var"):
            array = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("running_mean"):
            array = rng.normal(0, 0.1, shape)
        elif len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            array = rng.normal(size=shape) * (2 / fan_in) ** 0.5
        elif name.endswith("weight"):
            array = rng.uniform(0.5, 1.0, shape)
        else:
            array = rng.normal(0, 0.1, shape)
        found[name] = array.astype(np.float32).astype(np.float64)
    return found


def digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """A checksum of names and shapes, whatever their order."""
    lines = sorted(f"{name} {tuple(map(int, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def places(shape: Sequence[int], most: int = 60) -> np.ndarray:
    """Flat indices of the numbers of an activation that are compared, at most ``most``."""
    size = int(np.prod(shape))
    return np.sort(np.random.default_rng(size).choice(size, min(size, most), replace=False))


def images(shape: Sequence[int]) -> np.ndarray:
    """Images (batch, height, width, channels) in float64."""
    return np.random.default_rng(0).normal(size=shape)
