r"""Images per second of a whole training step, beside the same network in PyTorch.

    python scripts/bench/training.py                     # ViT-S/16, ViT-B/16, ResNet-50
    python scripts/bench/training.py --forms plain fused remat --torch eager compile
    python scripts/bench/training.py --models vit_ti16 --patch-size 4 --image-size 32 \
        --num-classes 10 --batch-size 16 32 64 --torch-python /opt/torch/bin/python

The peer is timm's network, and for U-Net that of ``scripts/parity``. A step is forward, backward
and the update (AdamW for ViT, SGD with momentum for ResNet, Adam for U-Net), from bytes that lie on
the device already: the loader has a benchmark of its own. On vitjax's side it is the trainer's own
step, compiled as the trainer compiles it. How contestants take turns, and what a row has, is in
``timing.py``. Both sides must have the same number of parameters; U-Nets start from the same
weights and have to find the same loss. Where PyTorch or timm is not installed, vitjax is timed
alone.

On a CPU a run of vitjax tells the process to keep memory that is freed, by which PyTorch gains too:
with --apart, or with a Python of its own (--torch-python), it has a process of its own, and memory
as its users have it. equimo (JAX, Equinox) joins the ViTs if --equimo-python names a Python that
has it.

On a GPU, PyTorch gets what its users give it: autocast, channels_last for ResNet, fused attention,
a fused optimizer, cuDNN's search for the fastest convolution, and with --torch compile
torch.compile. Of several forms (--forms) each has a row beside the same measurements of the peers,
which have the first form.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import sys
import time
from typing import Any

# JAX would take three quarters of the GPU's memory at its start; here two frameworks share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import peer  # type: ignore[import-not-found]
import timing  # type: ignore[import-not-found]
from flax.traverse_util import flatten_dict
from networks import MEAN, MODELS, STD, Case  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.core.names import count_parameters
from vitjax.training import experiment, flops
from vitjax.training.step import make_train_step

# How ViTs are computed: fields of a case.
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fused": {"attention": "fused"},
    "remat": {"remat": True},
}
# By how much the losses of the same weights may differ, relatively.
LOSS_RTOL = {"float32": 1e-4, "bfloat16": 2e-2}


def build(case: Case) -> experiment.Experiment:
    """The parts that a config names, as `vitjax train` builds them."""
    model: dict[str, Any] = {"name": case.name, "dtype": case.dtype}
    if case.is_vit:
        model |= {"patch_size": case.patch_size, "attention_impl": case.attention}
        model |= {"remat": case.remat} | ({"depth": case.depth} if case.depth else {})
        optimizer = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}
    elif case.is_unet:
        model |= {"filters": case.filters}
        optimizer = {"name": "adam", "learning_rate": 1e-3}
    else:
        model |= {"stem": "cifar"} if case.small_stem else {}
        optimizer = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True}
        optimizer |= {"weight_decay": 5e-5}
    if case.is_unet:
        data = {"source": "cells", "size": case.image_size}
        data |= {"train": case.batch_size, "val": 1, "test": 1}
    else:
        data = {"source": "synthetic", "image_size": case.image_size, "val_examples": 1}
        data |= {"examples": max(case.batch_size, case.num_classes)}
        data |= {"num_classes": case.num_classes}
    return experiment.build(
        {
            "model": model,
            "data": {**data, "batch_size": case.batch_size, "mean": MEAN, "std": STD},
            "objective": {"name": "segmentation" if case.is_unet else "classification"},
            "optimizer": optimizer,
            "train": {"steps": 1},
            "parallel": {"devices": 1},
        }
    )


class Vitjax:
    """vitjax's side, as `vitjax train` compiles it.

    Attributes:
        parameters: how many are trained.
        batch: the host's copy of the batch that is trained on.
        weights: the host's copy of the parameters before the first step.
        first_loss: that of the first step; None before it.
    """

    def __init__(self, case: Case):
        built = build(case)
        with built.data.train_batches() as batches:
            self.batch: dict[str, np.ndarray] = dict(next(batches))
        state = built.initial_state()
        self.parameters = count_parameters(state.params)
        self.weights = jax.device_get(state.params)
        self.first_loss: float | None = None
        self._built = built
        self._state = built.parallel.place_state(state)
        self._placed = built.parallel.place_batch(self.batch)
        self._step = built.parallel.compile(
            make_train_step(built.objective, built.optimizer), donate=True
        )

    @property
    def flops_per_image(self) -> float:
        """Of the loss and its gradient; what remat computes again does not count."""
        built = self._built
        return flops.per_example(
            built.objective, built.abstract_state(), built.data.example_batch()
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


class Apart:
    """A peer in a process of its own.

    Attributes:
        parameters: how many are trained.
        first_loss: that of the first step; None before it.
        gemm: its matrix product.
        versions: of its packages.
    """

    def __init__(self, python: str, program: str, case: Case, ours: Vitjax, **settings: Any):
        arrays = {"image": ours.batch["image"], "label": ours.batch["label"]}
        if case.is_unet:
            arrays |= flatten_dict(ours.weights, sep="/")
        settings = {**settings, "case": dataclasses.asdict(case)}
        self._peer = peer.Peer(python, program, settings, arrays)
        self.parameters = int(self._peer.facts["parameters"])
        self.versions: dict[str, str] = self._peer.facts["versions"]
        self.first_loss: float | None = None
        self.gemm: timing.Run | None = None
        if "gemm" in self._peer.runs:
            self.gemm = self._peer.seconds("gemm")
        self.close = self._peer.close

    def run(self, steps: int) -> float:
        """Takes ``steps`` training steps; returns their seconds."""
        answer = self._peer.ask("train", steps)
        self.first_loss = answer["first_loss"]
        return float(answer["seconds"])


class Inside:
    """PyTorch in this process; attributes are those of `Apart`."""

    def __init__(self, case: Case, ours: Vitjax, *, device: str, compile: bool):
        import training_torch  # type: ignore[import-not-found]

        self._torch = training_torch.Torch(case, ours.batch, ours.weights, device, compile)
        self.parameters, self.run = self._torch.parameters, self._torch.run
        self.versions: dict[str, str] = training_torch.versions()
        self.gemm = timing.gemm_by_torch(device)

    @property
    def first_loss(self) -> float | None:
        """As of `Apart`."""
        first: float | None = self._torch.first_loss
        return first

    def close(self) -> None:
        """Nothing has to be ended."""


def torch_peer(
    case: Case, ours: Vitjax, arguments: argparse.Namespace, *, compile: bool
) -> Apart | Inside:
    """PyTorch's side of a case.

    Raises:
        PeerError: it is not installed, or cannot use the device that JAX runs on.
    """
    platform = jax.devices()[0].platform
    if platform not in ("cpu", "gpu"):
        raise peer.PeerError(f"PyTorch does not run on the device that JAX runs on ({platform})")
    python = peer.python_with("torch", arguments.torch_python)
    if python is None:
        raise peer.PeerError("PyTorch is not installed here (--torch-python)")
    device = "cuda" if platform == "gpu" else "cpu"
    if arguments.apart or arguments.torch_python:
        return Apart(python, "training_torch.py", case, ours, device=device, compile=compile)
    try:
        return Inside(case, ours, device=device, compile=compile)
    except (ImportError, RuntimeError) as error:
        raise peer.PeerError(peer.in_a_line(error)) from error


def equimo_peer(case: Case, ours: Vitjax, arguments: argparse.Namespace) -> Apart:
    """The side of equimo.

    Raises:
        PeerError: it is not installed.
    """
    python = peer.python_with("equimo", arguments.equimo_python)
    if python is None:
        raise peer.PeerError("equimo is not installed here (--equimo-python)")
    return Apart(python, "equimo_peer.py", case, ours, train=True)


def measure(
    case: Case, forms: list[str], arguments: argparse.Namespace, report: timing.Report
) -> None:
    """Times one case and reports a row for each of vitjax's forms."""
    cases = [dataclasses.replace(case, **FORMS[form]) for form in forms]
    mine = {
        f"{timing.OURS}, {form}" if number else timing.OURS: Vitjax(cases[number])
        for number, form in enumerate(forms)
    }
    case, ours = cases[0], mine[timing.OURS]
    makers: dict[str, Any] = {}
    for how in arguments.torch:
        name = f"{case.peer}, torch.compile" if how == "compile" else case.peer
        makers[name] = functools.partial(torch_peer, compile=how == "compile")
    if case.is_vit and arguments.equimo_python:
        makers["equimo"] = equimo_peer
    runs: dict[str, timing.Run] = {name: each.run for name, each in mine.items()}
    peaks, failed = {"JAX": timing.gemm_by_jax()}, dict[str, str]()
    peers: dict[str, Apart | Inside] = {}
    with contextlib.ExitStack() as stack:
        for name, make in makers.items():
            try:
                made = peers[name] = make(case, ours, arguments)
            except peer.PeerError as error:
                failed[name] = str(error)
                timing.warn(f"{name} is left out: {error}")
                continue
            stack.callback(made.close)
            if made.parameters != ours.parameters:
                sys.exit(
                    f"{case.name}: {ours.parameters:,} parameters here and {made.parameters:,} in"
                    f" {name}: not the same network"
                )
            runs[name] = made.run
            if made.gemm is not None:
                peaks["PyTorch"] = made.gemm
            report.packages |= made.versions
        times = timing.in_turn(
            runs,
            rounds=arguments.rounds,
            steps=arguments.steps,
            # The first step compiles; the second shows whether the donated state compiles again.
            warm_up=3,
            peaks=peaks,
            label=case.describe(),
        )
    times.failed.update(failed)
    found = [ours.first_loss, *(made.first_loss for made in peers.values())]
    losses = [loss for loss in found if loss is not None]
    if case.is_unet and not np.allclose(losses, losses[0], rtol=LOSS_RTOL[case.dtype]):
        sys.exit(f"{case.name}: of the same weights and batch the losses are {losses}")
    flop = ours.flops_per_image * case.batch_size
    theirs = {name: seconds for name, seconds in times.seconds.items() if name in makers}
    peak = flops.peak_per_second(jax.devices()[0].device_kind)
    for name, form in zip(mine, cases, strict=True):
        seconds = times.seconds.get(name)
        mfu = flop / np.median(seconds) / peak if peak and seconds else None
        notes = {"apart": bool(arguments.apart or arguments.torch_python), "mfu": mfu}
        of_form = {timing.OURS: seconds, **theirs} if seconds else theirs
        report.add(
            timing.Row(
                "training",
                form.describe(),
                form.batch_size,
                "images/s",
                form.batch_size,
                dataclasses.replace(times, seconds=of_form),
                tuple(makers),
                flop,
                notes,
            )
        )


def main() -> None:
    arguments = parse()
    process.start_devices()  # as a run does
    platform = jax.devices()[0].platform
    dtype = arguments.dtype or ("float32" if platform == "cpu" else "bfloat16")
    report = timing.Report(arguments.json)
    for name in arguments.models:
        for batch_size in arguments.batch_size:
            case = Case(
                name,
                arguments.image_size,
                arguments.patch_size,
                2 if name == "unet" else arguments.num_classes,
                batch_size,
                dtype,
                filters=arguments.filters,
                depth=arguments.depth,
            )
            measure(case, arguments.forms if case.is_vit else ["plain"], arguments, report)
    report.print()


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
    parser.add_argument("--patch-size", type=int, default=16, help="of ViTs (default: 16)")
    parser.add_argument("--depth", type=int, help="of ViTs (default: the model's)")
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[128])
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of the computation (default: bfloat16; on a CPU float32)",
    )
    parser.add_argument("--steps", type=int, default=20, help="in a round (default: 20)")
    timing.options(parser, rounds=7)
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=FORMS,
        default=["plain"],
        help="of vitjax's ViTs: plain, fused attention (as timm's), activations computed twice",
    )
    parser.add_argument(
        "--torch",
        nargs="+",
        choices=("eager", "compile"),
        default=["eager"],
        help="how PyTorch runs (default: eager)",
    )
    parser.add_argument("--apart", action="store_true", help="PyTorch in a process of its own")
    peer.options(parser, ("torch", "PyTorch and timm"), ("equimo", "equimo and optax"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
