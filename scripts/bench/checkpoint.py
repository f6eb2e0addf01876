"""MB per second of saving and restoring a training state, beside torch.save and torch.load.

    python scripts/bench/checkpoint.py --torch-python /opt/torch/bin/python
    python scripts/bench/checkpoint.py --model resnet50 --folder /data

The state is that of a network with AdamW: parameters and two moments. vitjax's side is what the
trainer does: `Checkpoints.save` until all is on disk, with the fingerprint of every array, and
`Checkpoints.restore` with its check. A further row has the time for which a training waits until it
continues, while the rest is written in the background. PyTorch saves and loads the same arrays as a
dict of tensors; it neither checks them nor writes in the background. Files are read from the
system's memory in both.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import peer  # type: ignore[import-not-found]
import timing  # type: ignore[import-not-found]
from networks import TIMM_NAMES, Case  # type: ignore[import-not-found]
from training import build  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.training.checkpoints import Checkpoints

TORCH = "PyTorch"


class Saved:
    """Checkpoints of a new training state.

    Attributes:
        arrays: the state's leaves on the host.
        megabytes: of these.
    """

    def __init__(self, case: Case, folder: Path):
        built = build(case)
        self._state: Any = built.parallel.place_state(built.initial_state())
        self._abstract, self._config = built.abstract_state(), built.config
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=1)
        self.arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(self._state))]
        self.megabytes = sum(array.nbytes for array in self.arrays) / 1e6
        self._steps = itertools.count()

    def save(self, steps: int) -> float:
        """Seconds until checkpoints are on disk."""
        start = time.perf_counter()
        for _ in range(steps):
            self._begin()
            self._checkpoints.wait()
        return time.perf_counter() - start

    def begin(self, steps: int) -> float:
        """Seconds until training would continue."""
        seconds = 0.0
        for _ in range(steps):
            start = time.perf_counter()
            self._begin()
            seconds += time.perf_counter() - start
            self._checkpoints.wait()
        return seconds

    def restore(self, steps: int) -> float:
        """Seconds until the newest one is in memory."""
        start = time.perf_counter()
        for _ in range(steps):
            restored = self._checkpoints.restore(self._abstract, config=self._config)
            assert restored is not None
            jax.block_until_ready(restored.state)
        return time.perf_counter() - start

    def close(self) -> None:
        """Ends background threads."""
        self._checkpoints.close()

    def _begin(self) -> None:
        step = next(self._steps)
        self._checkpoints.save(self._state, step=step, progress={}, config=self._config)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(TIMM_NAMES), default="vit_s16")
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    timing.options(parser, rounds=7)
    peer.options(parser, ("torch", "PyTorch"))
    arguments = parser.parse_args()
    process.prepare()
    process.start_devices()
    report = timing.Report(arguments.json)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        saved = Saved(Case(arguments.model, 224, 16, 1000, 1), folder)
        stack.callback(saved.close)
        theirs, failed = None, {}
        python = peer.python_with("torch", arguments.torch_python)
        try:
            if python is None:
                raise peer.PeerError("PyTorch is not installed here (--torch-python)")
            arrays = {f"{number:04}": array for number, array in enumerate(saved.arrays)}
            settings = {"folder": str(folder)}
            theirs = peer.Peer(python, "checkpoint_torch.py", settings, arrays)
            stack.callback(theirs.close)
            report.packages |= theirs.facts["versions"]
        except peer.PeerError as error:
            timing.warn(f"{TORCH} is left out: {error}")
            failed[TORCH] = str(error)
        parts = {
            "save, until it is on disk": (saved.save, "save"),
            "save, until training continues": (saved.begin, "save"),
            "restore": (saved.restore, "load"),
        }
        what = f"{arguments.model} with AdamW, {saved.megabytes:,.0f} MB"
        for name, (run, counterpart) in parts.items():
            runs = {timing.OURS: run}
            if theirs is not None:
                runs[TORCH] = theirs.seconds(counterpart)
            times = timing.in_turn(runs, rounds=arguments.rounds, label=name)
            times.failed.update(failed)
            report.add(
                timing.Row(
                    "checkpoint",
                    f"checkpoint of {what}: {name}",
                    None,
                    "MB/s",
                    saved.megabytes,
                    times,
                    (TORCH,),
                )
            )
    report.print()


if __name__ == "__main__":
    main()
