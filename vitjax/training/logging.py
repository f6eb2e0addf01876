"""The output of a running training: metrics.jsonl, TensorBoard events, a progress bar."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from vitjax.core.atomic import finite, naming, write_text
from vitjax.core.json_files import DamagedFileError, open_file
from vitjax.core.text import shortened
from vitjax.training.events import Events
from vitjax.training.workdir import METRICS, WorkdirError

_log = logging.getLogger(__name__)

# Of the file and of a line in it: far more than a run writes, and less than the memory.
_MOST_BYTES = 2**31
_MOST_OF_LINE = 2**24


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
        self._events = Events(workdir / "tensorboard", next_step=step + 1)
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
        with naming(self.path):
            self._file.write(json.dumps(finite(record)) + "\n")
            self._file.flush()
        numbers = {
            f"{split}/{name}" + (f"/{place}" if isinstance(value, list) else ""): number
            for name, value in values.items()
            for place, number in enumerate(value if isinstance(value, list) else [value])
            if isinstance(number, int | float) and math.isfinite(number)
        }
        self._events.write(step, numbers)

    def show(self, loss: float, speed: str) -> None:
        """Shows the latest loss and speed, in words, next to the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {speed}", refresh=False)

    def close(self) -> None:
        """Closes the files and the bar."""
        if self.quiet:
            return
        self._bar.close()
        with naming(self.path):
            self._file.close()
        self._events.close()


def speed_text(per_second: float, episodic: bool) -> str:
    """A speed in words, such as ``"812 examples/s"`` or ``"0.4 episodes/s"``."""
    digits = 1 if per_second < 10 else 0
    return f"{per_second:.{digits}f} {'episodes' if episodic else 'examples'}/s"


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl.

    An incomplete last line, as a killed run leaves it, is not read. Every other damaged line is
    left out with a warning, and those after it are read.

    Raises:
        WorkdirError: it is not a file, or one that no run has written.
    """
    records, damaged = [], []
    try:
        with open_file(path, _MOST_BYTES) as file:
            for number, line in enumerate(_lines(file), start=1):
                record = _record(line)
                if record is None:
                    damaged.append(number)
                else:
                    records.append(record)
    except FileNotFoundError:
        return []
    except DamagedFileError as error:
        raise WorkdirError(
            f"{error}; move it away: training continues it, and without it begins a new one"
        ) from error
    if damaged:
        _log.warning(
            "%s: left out %d damaged lines (%s)", path, len(damaged), shortened(damaged, 5)
        )
    return records


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The complete lines of a file; one that no run has written is empty."""
    while line := file.readline(_MOST_OF_LINE):
        if line.endswith(b"\n"):
            yield line
        elif len(line) == _MOST_OF_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_MOST_OF_LINE)
            yield b""


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None if it holds none."""
    try:
        record = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    step, split = record.get("step"), record.pop("split", None)
    fits = all(
        _is_number(x) or (isinstance(x, list) and all(map(_is_number, x))) for x in record.values()
    )
    if type(step) is not int or not isinstance(split, str) or not fits:
        return None
    return {**record, "split": split}


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a number that a float can be, or None, which stands for NaN."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, float)
