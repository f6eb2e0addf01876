"""PyTorch's side of `scripts/bench/training.py`: the same networks, and how they are trained.

As a program it serves the requests of a `peer.Peer`. It needs PyTorch, and timm for all networks
but U-Net, but neither JAX nor vitjax.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
from networks import MEAN, STD, TIMM_NAMES, Case  # type: ignore[import-not-found]
from peer import received, serve  # type: ignore[import-not-found]
from timing import gemm_by_torch  # type: ignore[import-not-found]


class Torch:
    """The same network, batch, optimizer and precision in PyTorch.

    Args:
        weights: vitjax's parameters, which a U-Net starts from.

    Attributes:
        parameters: how many are trained.
        first_loss: that of the first step; None before it.
    """

    def __init__(
        self,
        case: Case,
        batch: dict[str, np.ndarray],
        weights: dict[str, Any],
        device: str,
        compiled: bool,
    ):
        import torch

        model: Any = _unet(case, weights) if case.is_unet else timm_network(case)
        self.parameters = sum(p.numel() for p in model.parameters())
        self.first_loss: float | None = None
        self._torch, self._cuda = torch, device == "cuda"
        if self._cuda:
            torch.backends.cudnn.benchmark = True
            # XLA computes float32 products in TF32 by default on GPUs that have it.
            torch.set_float32_matmul_precision("high")
        layout = torch.contiguous_format if case.is_vit else torch.channels_last
        model = model.to(device=device, memory_format=layout).train()
        images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
        self._images = images.to(device).contiguous(memory_format=layout)
        self._labels = torch.from_numpy(batch["label"]).long().to(device)
        self._optimizer = self._make_optimizer(case, model)
        self._model = torch.compile(model) if compiled else model
        self._autocast = torch.autocast(
            device, dtype=torch.bfloat16, enabled=case.dtype == "bfloat16"
        )

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns the seconds until the device has done them."""
        cross_entropy = self._torch.nn.functional.cross_entropy
        self._synchronise()
        start = time.perf_counter()
        for _ in range(steps):
            images = (self._images.float() / 255 - MEAN) / STD
            with self._autocast:
                # PyTorch's loss wants the classes of pixels behind the batch.
                loss = cross_entropy(self._model(images).movedim(-1, 1), self._labels)
            loss.backward()
            if self.first_loss is None:
                self.first_loss = loss.item()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self._synchronise()
        return time.perf_counter() - start

    def _make_optimizer(self, case: Case, model: Any) -> Any:
        optim, parameters = self._torch.optim, model.parameters()
        fused = {"fused": True} if self._cuda else {}
        if case.is_unet:
            return optim.Adam(parameters, lr=1e-3, **fused)
        if case.is_vit:
            return optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, **fused)
        return optim.SGD(
            parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-5, **fused
        )

    def _synchronise(self) -> None:
        if self._cuda:
            self._torch.cuda.synchronize()


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    """As a program: the steps and the matrix product, and facts about the network."""
    import torch

    settings, arrays = received()
    case, device = Case(**settings["case"]), settings["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA device")
    batch = {"image": arrays.pop("image"), "label": arrays.pop("label")}
    contestant = Torch(case, batch, nested(arrays), device, settings["compile"])

    def steps(number: int) -> dict[str, Any]:
        return {"seconds": contestant.run(number), "first_loss": contestant.first_loss}

    facts = {"parameters": contestant.parameters, "versions": versions()}
    return {"train": steps, "gemm": gemm_by_torch(device)}, facts


def versions() -> dict[str, str]:
    """Those of PyTorch and, if it is installed, timm."""
    import importlib.metadata

    import torch

    found = {"torch": torch.__version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["timm"] = importlib.metadata.version("timm")
    return found


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """A tree of dicts from values by path, whose parts are separated by slashes."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree


def timm_network(case: Case) -> Any:
    """A network of timm, with the stem that small images get."""
    import torch

    timm = import_timm()
    sizes = {"img_size": case.image_size, "patch_size": case.patch_size} if case.is_vit else {}
    if case.is_vit and case.depth:
        sizes["depth"] = case.depth
    model: Any = timm.create_model(TIMM_NAMES[case.name], num_classes=case.num_classes, **sizes)
    if case.small_stem:
        model.conv1 = torch.nn.Conv2d(3, model.conv1.out_channels, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    if case.remat and case.is_vit:
        model.set_grad_checkpointing(True)
    return model


def _unet(case: Case, weights: dict[str, Any]) -> Any:
    """U-Net as `scripts/parity` has it, which vitjax's is compared with number by number."""
    import torch

    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.append(root)
    from scripts.parity.unet_networks import UNet

    widths = tuple(case.filters * 2**level for level in range(5))
    model = UNet(1, widths, case.num_classes, norm="batch")
    model.see = lambda name, x: x  # type: ignore[method-assign]  # no copies of activations
    orders = {torch.nn.Conv2d: (3, 2, 0, 1), torch.nn.ConvTranspose2d: (2, 3, 0, 1)}
    for path, module in model.named_modules():
        found = functools.reduce(dict.__getitem__, path.split("."), weights) if path else {}
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                value = found["bias"]
            elif type(module) in orders:
                value = np.transpose(found["kernel"], orders[type(module)])
            else:
                value = found["scale"]
            parameter.data = torch.from_numpy(np.array(value))
    return model


def import_timm() -> Any:
    """Imports timm in this process, also without torchvision, of which it needs only names."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # missing, or built for another version of PyTorch
        _replace_torchvision()
    return importlib.import_module("timm")


def _replace_torchvision() -> None:
    """Makes ``import torchvision`` return modules in which every name is an empty class."""

    class Anything(type):
        def __getattr__(cls, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything(name, (), {})

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything(name, (), {})

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            if name.partition(".")[0] == "torchvision":
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
            return None

        def create_module(self, spec: Any) -> types.ModuleType:
            return Module(spec.name)

        def exec_module(self, module: types.ModuleType) -> None:
            pass

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())


if __name__ == "__main__":
    serve(_start)
