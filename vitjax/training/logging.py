"""The output of a running training: metrics.jsonl, TensorBoard events, a progress bar."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from vitjax.core.atomic import finite, write_text
from vitjax.training.workdir import METRICS


class Logger:
    """Writes the metrics of one run; on resume, records after ``step`` are removed.

    Args:
        workdir: the run's folder.
        step: the step from which the run resumes; 0 for a new run.
        total: the last step of the run.
        quiet: whether to write and show nothing, as on all hosts but the first.
    """

    def __init__(self, workdir: Path, *, step: int, total: int, quiet: bool = False):
        self.quiet = quiet
        self.path = workdir / METRICS
        self._bar: Any = None
        if quiet:
            return
        kept = [record for record in read(self.path) if 0 < record["step"] <= step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = open(self.path, "a")  # noqa: SIM115 - open as long as the run
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        # disable=None shows the bar on terminals only: a log file has only the lines of `say`.
        self._bar = tqdm(
            total=total,
            initial=step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
            mininterval=0.5,
            smoothing=0.05,
        )

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        if not self.quiet:
            tqdm.write(text)

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is shown, as on a terminal."""
        return self._bar is not None and not self._bar.disable

    def advance(self) -> None:
        """Counts a step that was launched."""
        if self._bar is not None:
            self._bar.update()

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """Records ``values`` of ``split`` at ``step``."""
        if self.quiet:
            return
        record = {"step": step, "split": split, **values}
        self._file.write(json.dumps(finite(record)) + "\n")
        self._file.flush()
        for name, value in values.items():
            each = value if isinstance(value, list) else [value]
            for place, number in enumerate(each):
                if isinstance(number, int | float) and math.isfinite(number):
                    tag = f"{split}/{name}" + (f"/{place}" if isinstance(value, list) else "")
                    self._events.add_scalar(tag, number, step)

    def show(self, loss: float, examples_per_second: float) -> None:
        """Shows the latest loss and speed next to the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, {examples_per_second:.0f} examples/s", refresh=False
            )

    def close(self) -> None:
        """Closes the files and the bar."""
        if self.quiet:
            return
        self._bar.close()
        self._file.close()
        self._events.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without an incomplete last line of a killed run."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
