r"""Images per second of a whole training step, beside the same network in timm on PyTorch.

    python scripts/bench/training.py                     # ViT-S/16, ViT-B/16, ResNet-50
    python scripts/bench/training.py --attention fused --batch-size 256 --compile
    python scripts/bench/training.py --models vit_ti16 --patch-size 4 --image-size 32 \
        --num-classes 10 --batch-size 64 --dtype float32

A step is forward, backward and the update (AdamW for ViT, SGD with momentum for ResNet), from bytes
that lie on the device already: the loader has a benchmark of its own. On vitjax's side it is the
trainer's own step, compiled as the trainer compiles it. The two take turns, round by round, so that
what else happens on the machine hits both, and the medians over the rounds count. Where PyTorch or
timm is not installed, vitjax is timed alone.

On a GPU, PyTorch gets what its users give it: autocast, channels_last for ResNet, fused attention,
a fused optimizer, cuDNN's search for the fastest convolution, and with --compile torch.compile.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import os
import statistics
import sys
import time
import types
from datetime import date
from typing import Any, Protocol

# JAX would take three quarters of the GPU's memory at its start; here two frameworks share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np

from vitjax.training import experiment, flops, summary
from vitjax.training.state import count_parameters
from vitjax.training.step import make_train_step

TIMM_NAMES = {
    "vit_ti16": "vit_tiny_patch16_224",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
}
MEAN, STD = 0.5, 0.25
# Images of at most this many pixels on a side get ResNet's 3 x 3 stem of stride 1.
SMALL = 64


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: a network, its images and how a step is computed.

    Attributes:
        name: vitjax's name of the model.
        patch_size: of a ViT.
        attention: vitjax's implementation; timm has PyTorch's fused one.
        remat: compute activations again in the backward pass, on both sides.
    """

    name: str
    image_size: int
    patch_size: int
    num_classes: int
    batch_size: int
    dtype: str
    attention: str
    remat: bool

    @property
    def is_vit(self) -> bool:
        """Whether this is a ViT; else it is a ResNet."""
        return self.name.startswith("vit_")

    def describe(self) -> str:
        """The network in words, for the table."""
        if not self.is_vit:
            return f"{self.name}, 3x3 stem" if self.image_size <= SMALL else self.name
        name = f"{self.name.rstrip('0123456789')}{self.patch_size}"
        options = [f"{self.attention} attention"] if self.attention != "plain" else []
        return ", ".join([name, *options, *(["remat"] if self.remat else [])])


class Contestant(Protocol):
    """What is timed."""

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns the seconds until the device has done them."""


class Vitjax:
    """vitjax's side: the parts that a config names, as `vitjax train` builds them.

    Attributes:
        parameters: how many are trained.
        flops_per_image: of the loss and its gradient; what remat computes again does not count.
        batch: the host's copy of the batch that is trained on.
    """

    def __init__(self, case: Case):
        model: dict[str, Any] = {"name": case.name, "dtype": case.dtype}
        if case.is_vit:
            model |= {"patch_size": case.patch_size, "attention_impl": case.attention}
            model |= {"remat": case.remat}
            optimizer = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}
        else:
            model |= {"stem": "cifar" if case.image_size <= SMALL else "imagenet"}
            optimizer = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True}
            optimizer |= {"weight_decay": 5e-5}
        data = {
            "source": "synthetic",
            "image_size": case.image_size,
            "num_classes": case.num_classes,
            "examples": max(case.batch_size, case.num_classes),
            "val_examples": 1,
            "batch_size": case.batch_size,
            "mean": MEAN,
            "std": STD,
        }
        built = experiment.build(
            {
                "model": model,
                "data": data,
                "optimizer": optimizer,
                "train": {"steps": 1},
                "parallel": {"devices": 1},
            }
        )
        with built.data.train_batches() as batches:
            self.batch: dict[str, np.ndarray] = dict(next(batches))
        state = built.initial_state()
        self.parameters = count_parameters(state.params)
        self.flops_per_image = self._flops(built, case)
        self._state = built.parallel.place_state(state)
        self._placed = built.parallel.place_batch(self.batch)
        self._step = built.parallel.compile(
            make_train_step(built.objective, built.optimizer), donate=True
        )

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns the seconds until the device has done them."""
        jax.block_until_ready(self._state)
        start = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._placed)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start

    @staticmethod
    def _flops(built: experiment.Experiment, case: Case) -> float:
        objective = built.objective
        if case.is_vit:
            # The work that the network asks for: recomputation is none of it, and a fused kernel's
            # products could not be seen.
            plain = objective.model.clone(remat=False, attention_impl="plain")
            objective = dataclasses.replace(objective, model=plain)
        state, batch = built.abstract_state(), built.data.example_batch()
        counted = flops.count(
            objective.gradients, state.params, state.model_state, batch, jax.random.key(0)
        )
        return counted / len(batch["image"])


class Timm:
    """timm's side: the same network, batch, optimizer and precision in PyTorch."""

    def __init__(self, case: Case, batch: dict[str, np.ndarray], device: str, compiled: bool):
        import timm
        import torch

        sizes = {"img_size": case.image_size, "patch_size": case.patch_size} if case.is_vit else {}
        model: Any = timm.create_model(TIMM_NAMES[case.name], num_classes=case.num_classes, **sizes)
        if not case.is_vit and case.image_size <= SMALL:
            model.conv1 = torch.nn.Conv2d(3, model.conv1.out_channels, 3, padding=1, bias=False)
            model.maxpool = torch.nn.Identity()
        if case.remat and case.is_vit:
            model.set_grad_checkpointing(True)
        self.parameters = sum(p.numel() for p in model.parameters())
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
        fused = {"fused": True} if self._cuda else {}
        self._optimizer: Any = (
            torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, **fused)
            if case.is_vit
            else torch.optim.SGD(
                model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-5, **fused
            )
        )
        self._model = torch.compile(model) if compiled else model
        self._autocast = torch.autocast(
            device, dtype=torch.bfloat16, enabled=case.dtype == "bfloat16"
        )

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns the seconds until the device has done them."""
        self._synchronise()
        start = time.perf_counter()
        for _ in range(steps):
            images = (self._images.float() / 255 - MEAN) / STD
            with self._autocast:
                loss = self._torch.nn.functional.cross_entropy(self._model(images), self._labels)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self._synchronise()
        return time.perf_counter() - start

    def _synchronise(self) -> None:
        if self._cuda:
            self._torch.cuda.synchronize()


def main() -> None:
    arguments = parse()
    platform = jax.devices()[0].platform
    dtype = arguments.dtype or ("float32" if platform == "cpu" else "bfloat16")
    facts = summary.environment()
    packages = {name: facts["versions"][name] for name in ("vitjax", "jax", "flax")}
    device, why_not = torch_device(platform)
    if device:
        import timm
        import torch

        packages |= {"torch": torch.__version__, "timm": timm.__version__}
    print(f"{facts['device']}, Python {facts['versions']['python']}, {packages}")
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{date.today()}, revision {facts['git_revision']}{load}")
    print(f"{arguments.rounds} rounds of {arguments.steps} steps each")
    if why_not:
        print(f"vitjax alone: {why_not}")
    rows = []
    for name in arguments.models:
        patch_size = arguments.patch_size or 16
        case = Case(
            name,
            arguments.image_size,
            patch_size,
            arguments.num_classes,
            arguments.batch_size,
            dtype,
            arguments.attention,
            arguments.remat,
        )
        rows.append(measure(case, device, arguments))
    print("\n| model | images | batch | dtype | vitjax, images/s | timm, images/s |", end="")
    print(" vitjax / timm | TFLOP/s | MFU |\n|---|---|---:|---|---:|---:|---:|---:|---:|")
    print("\n".join(rows))


def measure(case: Case, device: str | None, arguments: argparse.Namespace) -> str:
    """Times one case; returns its row of the table in Markdown."""
    ours = Vitjax(case)
    contestants: list[Contestant] = [ours]
    if device:
        theirs = Timm(case, ours.batch, device, arguments.compile)
        if theirs.parameters != ours.parameters:
            sys.exit(
                f"{case.name}: {ours.parameters:,} parameters here and {theirs.parameters:,} in"
                " timm: not the same network"
            )
        contestants.append(theirs)
    for contestant in contestants:
        # The first step compiles; the second shows whether the donated state compiles anew.
        contestant.run(3)
    speeds: list[list[float]] = [[] for _ in contestants]
    for round_ in range(1, arguments.rounds + 1):
        for contestant, measured in zip(contestants, speeds, strict=True):
            measured.append(arguments.steps * case.batch_size / contestant.run(arguments.steps))
        shown = "  ".join(f"{measured[-1]:>10,.1f}" for measured in speeds)
        print(f"{case.describe()} round {round_}: {shown} images/s", flush=True)
    ours_speed = statistics.median(speeds[0])
    rate = ours.flops_per_image * ours_speed
    peak = flops.peak_per_second(jax.devices()[0].device_kind)
    theirs_speed = ratio = "-"
    if device:
        theirs_speed = f"{statistics.median(speeds[1]):,.1f}"
        ratios = [a / b for a, b in zip(*speeds, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    cells = [
        f"{case.describe()}{', torch.compile' if device and arguments.compile else ''}",
        f"{case.image_size}x{case.image_size}",
        str(case.batch_size),
        case.dtype,
        f"{ours_speed:,.1f}",
        theirs_speed,
        ratio,
        f"{rate / 1e12:.3g}",
        f"{rate / peak:.1%}" if peak else "-",
    ]
    return f"| {' | '.join(cells)} |"


def torch_device(platform: str) -> tuple[str | None, str]:
    """PyTorch's name of the device that JAX runs on, or None and why there is nothing to time."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    try:
        import torchvision  # noqa: F401
    except Exception:  # absent, or built for another PyTorch, which it tells in many ways
        stand_in_for_torchvision()
    try:
        import timm  # noqa: F401
    except ImportError as error:
        return None, f"timm cannot be imported ({error})"
    if platform == "cpu":
        return "cpu", ""
    if platform == "gpu" and torch.cuda.is_available():
        return "cuda", ""
    return None, f"this PyTorch cannot use the device that JAX runs on ({platform})"


def stand_in_for_torchvision() -> None:
    """Lets timm be imported without torchvision, of which its networks need names alone."""

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


def parse() -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["vit_s16", "vit_b16", "resnet50"], choices=TIMM_NAMES
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--patch-size", type=int, help="of ViTs (default: 16)")
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of the computation (default: bfloat16; on a CPU float32)",
    )
    parser.add_argument("--steps", type=int, default=20, help="in a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=7, help="of each contestant (default: 7)")
    parser.add_argument(
        "--attention",
        choices=("plain", "fused"),
        default="plain",
        help="vitjax's (timm's is fused)",
    )
    parser.add_argument("--remat", action="store_true", help="ViTs compute activations twice")
    parser.add_argument("--compile", action="store_true", help="torch.compile the timm model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
