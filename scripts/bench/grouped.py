"""Depthwise and grouped convolutions on this device: XLA's beside vitjax's forms.

    python scripts/bench/grouped.py                  # two minutes on two cores
    python scripts/bench/grouped.py --batch-size 32

Each form is compiled alone: forward, the derivative by the input, and that by the kernel. A cell is
the median over the rounds in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.cli import process
from vitjax.nn.convolution import ConvImpl, convolve

# Image side, channels, groups, kernel, stride: layers of MobileNetV2, EfficientNet and ResNeXt-50.
SHAPES = (
    (112, 32, 32, 3, 1),
    (112, 96, 96, 3, 2),
    (56, 144, 144, 3, 1),
    (14, 672, 672, 5, 1),
    (7, 1152, 1152, 5, 1),
    (56, 128, 32, 3, 1),
    (14, 512, 32, 3, 1),
)


def median(function: Callable[..., Any], *arguments: Any, rounds: int) -> float:
    """Milliseconds of a compiled function."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def measured(shape: tuple[int, ...], batch: int, impl: ConvImpl, rounds: int) -> list[float]:
    """Milliseconds forward, by the input and by the kernel."""
    side, channels, groups, size, stride = shape
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, side, side, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, channels // groups, channels)), jnp.float32)
    padding = [((size - 1) // 2,) * 2] * 2

    def forward(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, (stride, stride), padding, impl, groups)

    def by_x(x: Any, kernel: Any, y: Any) -> Any:
        return jax.vjp(lambda x: forward(x, kernel), x)[1](y)

    def by_kernel(x: Any, kernel: Any, y: Any) -> Any:
        return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](y)

    y = forward(x, kernel)
    return [
        median(forward, x, kernel, rounds=rounds),
        median(by_x, x, kernel, y, rounds=rounds),
        median(by_kernel, x, kernel, y, rounds=rounds),
    ]


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parsed = parser.parse_args()
    process.prepare()
    process.start_devices(cache=False)
    print("| side, channels, groups, kernel, stride | XLA: forward, by input, by kernel | auto |")
    print("|---|---|---|")
    batch = parsed.batch_size
    for shape in SHAPES:
        forms: tuple[ConvImpl, ...] = ("lax", "auto")
        cells = [
            ", ".join(f"{ms:.1f}" for ms in measured(shape, batch, impl, parsed.rounds))
            for impl in forms
        ]
        print(f"| {', '.join(map(str, shape))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
