r"""Images per second from decoded images on the host to probabilities on the host.

    python scripts/bench/inference.py --models vit_ti16 --patch-size 4 --image-size 32 \
        --num-classes 10 --batch-size 1 32 --torch-python /opt/torch/bin/python

vitjax's side is `vitjax.load(...).predict(images)`, the path of ``vitjax predict`` behind the
reading of files: images are collected into a batch, normalised, and answered with the five most
probable classes. The peers are timm, eager and with torch.compile, under ``inference_mode`` and on
a GPU in bfloat16, and for ViTs equimo (JAX, Equinox): they stack the images, normalise them, and
return all probabilities to the host. ``timing.py`` says how contestants take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import peer  # type: ignore[import-not-found]
import timing  # type: ignore[import-not-found]
from networks import TIMM_NAMES, Case  # type: ignore[import-not-found]
from training import build  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.core.names import count_parameters
from vitjax.tasks.loaded import Loaded
from vitjax.training import flops

TOP = 5
EAGER, COMPILED, EQUIMO = "timm", "timm, torch.compile", "equimo"


class Vitjax:
    """A model as `vitjax.load` returns it, with new variables.

    Attributes:
        images: what is predicted, decoded, as a list of arrays of bytes.
        parameters: of the model.
        flops: of the forward pass of all images.
    """

    def __init__(self, case: Case):
        built = build(case)
        variables = built.initial_state().variables
        self._loaded, self._size = Loaded(built, variables), case.batch_size
        self.parameters = count_parameters(variables["params"])
        rng = np.random.default_rng(0)
        shape = (case.batch_size, *built.data.image_shape)
        batch = rng.integers(0, 256, shape, dtype=np.uint8)
        self.images = list(batch)
        plain = dataclasses.replace(built.objective, model=built.objective.model.plain())
        self.flops = flops.count(plain.predict, variables, {"image": batch})

    def run(self, steps: int) -> float:
        """Predicts all images ``steps`` times."""
        start = time.perf_counter()
        for _ in range(steps):
            self._loaded.predict(self.images, batch_size=self._size, top=TOP)
        return time.perf_counter() - start


def measure(case: Case, arguments: argparse.Namespace, report: timing.Report) -> None:
    """Times one case and reports its row."""
    ours = Vitjax(case)
    settings = {"case": dataclasses.asdict(case), "train": False}
    settings["device"] = "cuda" if jax.default_backend() == "gpu" else "cpu"
    programs = {"torch": "inference_torch.py", "equimo": "equimo_peer.py"}
    names = {"torch": {EAGER: "eager", COMPILED: "compiled"}, "equimo": {EQUIMO: "predict"}}
    if not case.is_vit:
        del programs["equimo"]
    wanted = tuple(name for stem in programs for name in names[stem])
    runs, peaks, failed = {timing.OURS: ours.run}, {"JAX": timing.gemm_by_jax()}, dict[str, str]()
    with contextlib.ExitStack() as stack:
        for stem, program in programs.items():
            python = peer.python_with(stem, getattr(arguments, f"{stem}_python"))
            try:
                if python is None:
                    raise peer.PeerError(f"{stem} is not installed here (--{stem}-python)")
                theirs = peer.Peer(python, program, settings, {"image": np.stack(ours.images)})
            except peer.PeerError as error:
                timing.warn(f"{stem} is left out: {error}")
                failed |= dict.fromkeys(names[stem], str(error))
                continue
            stack.callback(theirs.close)
            if theirs.facts["parameters"] != ours.parameters:
                sys.exit(f"{stem}'s {case.name} is not the same network: its parameters differ")
            runs |= {name: theirs.seconds(run) for name, run in names[stem].items()}
            report.packages |= theirs.facts["versions"]
            if "gemm" in theirs.runs:
                peaks["PyTorch"] = theirs.seconds("gemm")
        times = timing.in_turn(
            runs,
            rounds=arguments.rounds,
            least=arguments.least,
            warm_up=3,
            peaks=peaks,
            label=f"{case.describe()}, batch {case.batch_size}",
        )
    times.failed.update(failed)
    report.add(
        timing.Row(
            "inference",
            case.describe(),
            case.batch_size,
            "images/s",
            case.batch_size,
            times,
            wanted,
            ours.flops,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=tuple(TIMM_NAMES), default=["vit_s16"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--patch-size", type=int, default=16, help="of ViTs (default: 16)")
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--dtype", choices=("bfloat16", "float32"))
    parser.add_argument("--attention", choices=("plain", "fused"), default="plain")
    parser.add_argument("--least", type=float, default=1.0, help="seconds of a turn (default: 1)")
    timing.options(parser, rounds=5)
    peer.options(parser, ("torch", "PyTorch and timm"), ("equimo", "equimo and optax"))
    arguments = parser.parse_args()
    process.start_devices()
    dtype = arguments.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    report = timing.Report(arguments.json)
    for name in arguments.models:
        for batch_size in arguments.batch_size:
            case = Case(
                name,
                arguments.image_size,
                arguments.patch_size,
                arguments.num_classes,
                batch_size,
                dtype,
                arguments.attention,
            )
            measure(case, arguments, report)
    report.print()


if __name__ == "__main__":
    main()
