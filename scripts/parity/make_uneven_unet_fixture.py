"""Write what a U-Net computes as milesial/Pytorch-UNet does for sides that pooling cannot halve.

    python -m scripts.parity.make_uneven_unet_fixture tests/weights/fixtures/unet_uneven.npz

Wants PyTorch (the fixture in the repository: 2.13.0). Poolings round down, and each map on the way
up is padded with zeros to the size of its skip, the smaller half before it. In the file,
``logits/19x22`` is for ``images/19x22``, (batch, height, width, channels); ``weights/...`` are the
network's, under Pytorch-UNet's names.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

DEPTH, FILTERS, CLASSES = 2, 2, 3
SIZES = ((19, 22), (5, 7), (16, 20), (4, 9))

State = dict[str, torch.Tensor]


def random_state() -> State:
    """Weights under Pytorch-UNet's names."""
    widths = [FILTERS * 2**level for level in range(DEPTH + 1)]
    state: State = {}

    def double(name: str, channels: int, width: int) -> None:
        for place, inputs in ((0, channels), (3, width)):
            state[f"{name}.double_conv.{place}.weight"] = torch.randn(width, inputs, 3, 3) / 3
            for part in ("weight", "running_var"):
                state[f"{name}.double_conv.{place + 1}.{part}"] = torch.rand(width) + 0.5
            for part in ("bias", "running_mean"):
                state[f"{name}.double_conv.{place + 1}.{part}"] = torch.randn(width) / 3

    double("inc", 3, widths[0])
    for level in range(1, DEPTH + 1):
        double(f"down{level}.maxpool_conv.1", widths[level - 1], widths[level])
        width = widths[DEPTH - level]
        state[f"up{level}.up.weight"] = torch.randn(2 * width, width, 2, 2) / 2
        state[f"up{level}.up.bias"] = torch.randn(width)
        double(f"up{level}.conv", 2 * width, width)
    state["outc.conv.weight"] = torch.randn(CLASSES, widths[0], 1, 1)
    state["outc.conv.bias"] = torch.randn(CLASSES)
    return {name: tensor.half() for name, tensor in state.items()}


def logits(state: State, x: torch.Tensor) -> torch.Tensor:
    """The network's outputs, (batch, classes, height, width), in float64."""
    get: Callable[[str], torch.Tensor] = lambda name: state[name].double()  # noqa: E731

    def double(name: str, x: torch.Tensor) -> torch.Tensor:
        for place in (0, 3):
            x = functional.conv2d(x, get(f"{name}.double_conv.{place}.weight"), padding=1)
            norm = f"{name}.double_conv.{place + 1}"
            parts = ("running_mean", "running_var", "weight", "bias")
            x = functional.batch_norm(x, *(get(f"{norm}.{part}") for part in parts)).relu()
        return x

    maps = [double("inc", x)]
    for level in range(1, DEPTH + 1):
        maps.append(double(f"down{level}.maxpool_conv.1", functional.max_pool2d(maps[-1], 2)))
    x = maps.pop()
    for level in range(1, DEPTH + 1):
        x = functional.conv_transpose2d(
            x, get(f"up{level}.up.weight"), get(f"up{level}.up.bias"), stride=2
        )
        skip = maps.pop()
        down, right = (
            there - here for there, here in zip(skip.shape[2:], x.shape[2:], strict=True)
        )
        x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        x = double(f"up{level}.conv", torch.cat([skip, x], dim=1))
    return functional.conv2d(x, get("outc.conv.weight"), get("outc.conv.bias"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    torch.manual_seed(0)
    state = random_state()
    found = {f"weights/{name}": tensor for name, tensor in state.items()}
    for height, width in SIZES:
        images = torch.randn(2, 3, height, width).half()
        size = f"{height}x{width}"
        found[f"images/{size}"] = images.permute(0, 2, 3, 1)
        found[f"logits/{size}"] = logits(state, images.double()).permute(0, 2, 3, 1)
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in found.items()})


if __name__ == "__main__":
    main()
