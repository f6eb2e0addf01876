"""Write small files of PyTorch's for `tests/weights/`, and read one of vitjax's with PyTorch.

    python -m scripts.parity.make_torch_files tests/weights/fixtures
    python -m scripts.parity.make_torch_files --check=FILE.pth --expected=FILE.npz

Wants PyTorch alone (the fixtures in the repository: 2.13.0). The second form was used on the
fixture ``written.pth``, from which vitjax's writer may not depart.
"""

import argparse
import pathlib
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def tensors() -> dict[str, torch.Tensor]:
    """One tensor of each kind that a state dict has been seen to hold."""
    numbers = torch.arange(24, dtype=torch.float32) / 8 - 1
    shared = numbers.clone()
    return {
        "conv.weight": nn.Parameter(numbers.reshape(3, 2, 2, 2).clone()),
        "conv.channels_last": numbers.reshape(1, 4, 2, 3).to(memory_format=torch.channels_last),
        "transposed": numbers.reshape(4, 6).T,
        "sliced": numbers.reshape(4, 6)[1::2, 2:5],
        "expanded": torch.tensor([[1.5], [2.5]]).expand(2, 3),
        "shared.whole": shared,
        "shared.end": shared[20:],
        "bfloat16": (numbers[:7] / 3).to(torch.bfloat16),
        "float16": (numbers[:5] / 3).half(),
        "float64": numbers[:3].double() / 3,
        "complex": torch.complex(numbers[:2], numbers[2:4]),
        "bool": numbers[:9] > 0,
        "bytes": torch.arange(250, 256, dtype=torch.uint8),
        "bn.num_batches_tracked": torch.tensor(12345678901),
        "empty": torch.zeros(0, 3),
    }


def training(net: nn.Module) -> dict[str, Any]:
    """What a training script keeps, around the weights of a net in DataParallel."""
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "arch": "linear",
        "model": OrderedDict((f"module.{k}", v) for k, v in net.state_dict().items()),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(
            lr=1e-3, output_dir=pathlib.PurePosixPath("/tmp/x"), device=torch.device("cpu")
        ),
        "best_prec1": np.float64(91.73),
        "scaler": {"scale": 65536.0, "growth": None},
        "shape": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
    }


def make(folder: Path) -> None:
    found = tensors()
    expected = {
        name: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in found.items()
    }
    np.savez_compressed(folder / "torch_expected.npz", **expected)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        net.bias.copy_(torch.tensor([5.0, 6.0]))
    for name, new in (("zip", True), ("old", False)):
        old: dict[str, Any] = {"_use_new_zipfile_serialization": new}
        torch.save(OrderedDict(found), folder / f"torch_{name}.pth", **old)
        torch.save(training(net), folder / f"torch_{name}_training.pth", **old)
    state = net.state_dict()
    halves = {k: v / 2 for k, v in state.items()}
    torch.save({"student": state, "teacher": halves, "epoch": 1}, folder / "torch_parts.pth")
    torch.save(
        {
            "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
            "float8": torch.tensor([0.5, -448.0]).to(torch.float8_e4m3fn),
        },
        folder / "torch_typed.pth",
    )
    torch.save({"w": torch.eye(3).to_sparse()}, folder / "torch_sparse.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a way to quantise that will go
        quantised = torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)
        torch.save({"w": quantised}, folder / "torch_quantised.pth")
        torch.jit.save(torch.jit.trace(net, torch.ones(1, 2)), folder / "torch_script.pt")
    torch.save(net, folder / "torch_module.pth")


def check(path: Path, expected: Path) -> None:
    """Raises if ``torch.load`` reads anything else from ``path`` than is in ``expected``."""
    arrays = np.load(expected)
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert list(loaded) == list(arrays), (list(loaded), list(arrays))
        for name, value in loaded.items():
            value = value.float() if value.dtype == torch.bfloat16 else value
            np.testing.assert_array_equal(value.numpy(), arrays[name], strict=True)
    print(f"{path}: {len(arrays)} tensors, all as expected")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--check", type=Path)
    parser.add_argument("--expected", type=Path)
    flags = parser.parse_args()
    if flags.check:
        check(flags.check, flags.expected)
    else:
        make(flags.folder)
