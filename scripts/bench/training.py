r"""Images per second of a whole training step, beside the same network in PyTorch.

    python scripts/bench/training.py                     # ViT-S/16, ViT-B/16, ResNet-50
    python scripts/bench/training.py --attention fused --batch-size 256 --compile
    python scripts/bench/training.py --models vit_ti16 --patch-size 4 --image-size 32 \
        --num-classes 10 --batch-size 64 --dtype float32
    python scripts/bench/training.py --models unet --image-size 256 --batch-size 4

The peer is timm's network, and for U-Net that of ``scripts/parity``. A step is forward, backward
and the update (AdamW for ViT, SGD with momentum for ResNet, Adam for U-Net), from bytes that lie on
the device already: the loader has a benchmark of its own. On vitjax's side it is the
trainer's own step, compiled as the trainer compiles it. The two take turns, round by round, so that
what else happens on the machine hits both, and the medians over the rounds count. U-Nets start from
the same weights and have to find the same loss. Where PyTorch or timm is not installed, vitjax is
timed alone.

On a CPU a run of vitjax tells the process to keep memory that is freed, by which PyTorch gains too:
with --apart it has a process of its own, and memory as its users have it.

On a GPU, PyTorch gets what its users give it: autocast, channels_last for ResNet, fused attention,
a fused optimizer, cuDNN's search for the fastest convolution, and with --compile torch.compile.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import statistics
import sys
import time
from datetime import date
from typing import Any, Protocol

# JAX would take three quarters of the GPU's memory at its start; here two frameworks share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
from training_torch import (  # type: ignore[import-not-found]
    MEAN,
    SMALL,
    STD,
    TIMM_NAMES,
    Apart,
    Torch,
    torch_device,
)

from vitjax.cli import process
from vitjax.core.names import count_parameters
from vitjax.training import experiment, flops, summary
from vitjax.training.step import make_train_step

MODELS = (*TIMM_NAMES, "unet")
# By how much the losses of the same weights may differ, relatively.
LOSS_RTOL = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: a network, its images and how a step is computed.

    Attributes:
        name: vitjax's name of the model.
        patch_size: of a ViT.
        attention: vitjax's implementation; timm has PyTorch's fused one.
        remat: compute activations again in the backward pass, on both sides.
        filters: channels of the first level of a U-Net, whose images have one channel.
    """

    name: str
    image_size: int
    patch_size: int
    num_classes: int
    batch_size: int
    dtype: str
    attention: str
    remat: bool
    filters: int

    @property
    def is_vit(self) -> bool:
        """Whether this is a ViT."""
        return self.name.startswith("vit_")

    @property
    def is_unet(self) -> bool:
        """Whether this is a U-Net; what is neither is a ResNet."""
        return self.name == "unet"

    def describe(self) -> str:
        """The network in words, for the table."""
        if self.is_unet:
            return f"{self.name}, {self.filters} channels first"
        if not self.is_vit:
            return f"{self.name}, 3x3 stem" if self.image_size <= SMALL else self.name
        name = f"{self.name.rstrip('0123456789')}{self.patch_size}"
        options = [f"{self.attention} attention"] if self.attention != "plain" else []
        return ", ".join([name, *options, *(["remat"] if self.remat else [])])


class Contestant(Protocol):
    """What is timed.

    Attributes:
        first_loss: that of the first step; None before it.
    """

    first_loss: float | None

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns the seconds until the device has done them."""


class Vitjax:
    """vitjax's side: the parts that a config names, as `vitjax train` builds them.

    Attributes:
        parameters: how many are trained.
        flops_per_image: of the loss and its gradient; what remat computes again does not count.
        batch: the host's copy of the batch that is trained on.
        weights: the host's copy of the parameters before the first step.
        first_loss: that of the first step; None before it.
    """

    def __init__(self, case: Case):
        model: dict[str, Any] = {"name": case.name, "dtype": case.dtype}
        if case.is_vit:
            model |= {"patch_size": case.patch_size, "attention_impl": case.attention}
            model |= {"remat": case.remat}
            optimizer = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}
        elif case.is_unet:
            model |= {"filters": case.filters}
            optimizer = {"name": "adam", "learning_rate": 1e-3}
        else:
            model |= {"stem": "cifar" if case.image_size <= SMALL else "imagenet"}
            optimizer = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True}
            optimizer |= {"weight_decay": 5e-5}
        built = experiment.build(
            {
                "model": model,
                "data": {
                    **(self._cells(case) if case.is_unet else self._patterns(case)),
                    "batch_size": case.batch_size,
                    "mean": MEAN,
                    "std": STD,
                },
                "objective": {"name": "segmentation" if case.is_unet else "classification"},
                "optimizer": optimizer,
                "train": {"steps": 1},
                "parallel": {"devices": 1},
            }
        )
        with built.data.train_batches() as batches:
            self.batch: dict[str, np.ndarray] = dict(next(batches))
        state = built.initial_state()
        self.parameters = count_parameters(state.params)
        self.weights = jax.device_get(state.params)
        self.first_loss: float | None = None
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
            if self.first_loss is None:
                self.first_loss = float(metrics["loss"].value())
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start

    @staticmethod
    def _patterns(case: Case) -> dict[str, Any]:
        return {
            "source": "synthetic",
            "image_size": case.image_size,
            "num_classes": case.num_classes,
            "examples": max(case.batch_size, case.num_classes),
            "val_examples": 1,
        }

    @staticmethod
    def _cells(case: Case) -> dict[str, Any]:
        return {
            "source": "cells",
            "size": case.image_size,
            "train": case.batch_size,
            "val": 1,
            "test": 1,
        }

    @staticmethod
    def _flops(built: experiment.Experiment, case: Case) -> float:
        objective = built.objective
        if case.is_vit:
            # The work that the network asks for: recomputation is none of it, and a fused kernel's
            # products could not be seen.
            plain = objective.model.clone(remat=False, attention_impl="plain")
        else:
            # A product has more to multiply than a convolution, at the border.
            plain = objective.model.clone(conv_impl="lax")
        objective = dataclasses.replace(objective, model=plain)
        state, batch = built.abstract_state(), built.data.example_batch()
        counted = flops.count(
            objective.gradients, state.params, state.model_state, batch, jax.random.key(0)
        )
        return counted / len(batch["image"])


def main() -> None:
    arguments = parse()
    process.start_devices()  # as a run does
    platform = jax.devices()[0].platform
    dtype = arguments.dtype or ("float32" if platform == "cpu" else "bfloat16")
    facts = summary.environment()
    packages = {name: facts["versions"][name] for name in ("vitjax", "jax", "flax")}
    wants_timm = arguments.models != ["unet"]
    device, why_not = torch_device(platform, wants_timm)
    if device:
        import torch

        packages["torch"] = torch.__version__
        if wants_timm:
            packages["timm"] = importlib.metadata.version("timm")
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
            2 if name == "unet" else arguments.num_classes,
            arguments.batch_size,
            dtype,
            arguments.attention,
            arguments.remat,
            arguments.filters,
        )
        rows.append(measure(case, device, arguments))
    print("\n| model | images | batch | dtype | vitjax, images/s | PyTorch, images/s |", end="")
    print(" ratio | TFLOP/s | MFU |\n|---|---|---:|---|---:|---:|---:|---:|---:|")
    print("\n".join(rows))


def measure(case: Case, device: str | None, arguments: argparse.Namespace) -> str:
    """Times one case; returns its row of the table in Markdown."""
    ours = Vitjax(case)
    contestants: list[Contestant] = [ours]
    if device:
        made = Apart if arguments.apart else Torch
        theirs = made(case, ours.batch, ours.weights, device, arguments.compile)
        if theirs.parameters != ours.parameters:
            sys.exit(
                f"{case.name}: {ours.parameters:,} parameters here and {theirs.parameters:,} in"
                " PyTorch: not the same network"
            )
        contestants.append(theirs)
    for contestant in contestants:
        # The first step compiles; the second shows whether the donated state compiles anew.
        contestant.run(3)
    losses = np.array([contestant.first_loss for contestant in contestants], float)
    if case.is_unet and not np.allclose(losses, losses[0], rtol=LOSS_RTOL[case.dtype]):
        sys.exit(f"{case.name}: of the same weights and batch the losses are {losses}")
    speeds: list[list[float]] = [[] for _ in contestants]
    for round_ in range(1, arguments.rounds + 1):
        for contestant, measured in zip(contestants, speeds, strict=True):
            measured.append(arguments.steps * case.batch_size / contestant.run(arguments.steps))
        shown = "  ".join(f"{in_digits(measured[-1]):>10}" for measured in speeds)
        print(f"{case.describe()} round {round_}: {shown} images/s", flush=True)
    ours_speed = statistics.median(speeds[0])
    rate = ours.flops_per_image * ours_speed
    peak = flops.peak_per_second(jax.devices()[0].device_kind)
    theirs_speed = ratio = "-"
    if arguments.json:
        write_json(case, arguments, speeds, ours.flops_per_image, rate / peak if peak else None)
    if device:
        theirs_speed = in_digits(statistics.median(speeds[1]))
        ratios = [a / b for a, b in zip(*speeds, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    cells = [
        f"{case.describe()}{', torch.compile' if device and arguments.compile else ''}",
        f"{case.image_size}x{case.image_size}",
        str(case.batch_size),
        case.dtype,
        in_digits(ours_speed),
        theirs_speed,
        ratio,
        f"{rate / 1e12:.3g}",
        f"{rate / peak:.1%}" if peak else "-",
    ]
    return f"| {' | '.join(cells)} |"


def write_json(
    case: Case,
    arguments: argparse.Namespace,
    speeds: list[list[float]],
    flops_per_image: float,
    mfu: float | None,
) -> None:
    """Appends the row to the file of ``--json``; null for a peer that was not measured."""
    theirs = "timm, torch.compile" if arguments.compile else "timm"
    ratios = [a / b for a, b in zip(*speeds, strict=True)] if len(speeds) == 2 else []
    row = {
        "kind": "training",
        "case": case.describe(),
        "batch": case.batch_size,
        "unit": "images/s",
        "values": {
            "vitjax": statistics.median(speeds[0]),
            theirs: statistics.median(speeds[1]) if ratios else None,
        },
        "ratios": {
            theirs: [statistics.median(ratios), min(ratios), max(ratios)] if ratios else None
        },
        "gflops_per_step": flops_per_image * case.batch_size / 1e9,
        "failed": {},
        "notes": {"mfu": mfu},
    }
    with open(arguments.json, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def in_digits(speed: float) -> str:
    """A speed with three digits at least."""
    return f"{speed:,.1f}" if speed >= 10 else f"{speed:.3g}"


def parse() -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["vit_s16", "vit_b16", "resnet50"], choices=MODELS
    )
    parser.add_argument("--filters", type=int, default=64, help="of U-Net's first level")
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
    parser.add_argument("--compile", action="store_true", help="torch.compile the PyTorch model")
    parser.add_argument(
        "--apart", action="store_true", help="PyTorch in a process of its own (see Apart)"
    )
    parser.add_argument("--json", metavar="FILE", help="append the rows to a file, as JSON lines")
    return parser.parse_args()


if __name__ == "__main__":
    main()
