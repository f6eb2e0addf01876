"""The output of a running training: metrics.jsonl, TensorBoard events, a progress bar."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from vitjax.core.atomic import finite, naming, new_file
from vitjax.core.json_files import DamagedFileError, open_file
from vitjax.core.text import Say, counted, shortened
from vitjax.training.events import Events
from vitjax.training.workdir import METRICS, WorkdirError

_log = logging.getLogger(__name__)

# Of the file and of a line in it: far more than a run writes, and less than the memory.
_MOST_BYTES = 2**31
_MOST_OF_LINE = 2**24
_MOST_AXES = 32  # of an array, as in NumPy before 2.0
_LISTED = 5
_DECODER = json.JSONDecoder()


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
        with new_file(self.path) as unfinished, open(unfinished, "w") as file:
            for record in read(self.path):
                if 0 < record["step"] <= step:
                    file.write(json.dumps(record) + "\n")
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


def read(path: Path, say: Say | None = None) -> Iterator[dict[str, Any]]:
    """Yields the records of a metrics.jsonl, of which only one is in memory.

    An incomplete last line, as a killed run leaves it, is not read. Every other damaged line is
    left out with a warning, and those after it are read.

    Args:
        path: the file; without it there is no record.
        say: receives the warning after the last record; None logs it.

    Raises:
        WorkdirError: it is not a file, or one that no run has written.
    """
    damaged: list[int] = []
    count = 0
    try:
        file = open_file(path, _MOST_BYTES)
    except FileNotFoundError:
        return
    except DamagedFileError as error:
        raise WorkdirError(
            f"{error}; move it away: training continues it, and without it begins a new one"
        ) from error
    with file:
        for number, line in enumerate(_lines(file), start=1):
            record = _record(line)
            if record is not None:
                yield record
                continue
            count += 1
            if len(damaged) <= _LISTED:
                damaged.append(number)
    if count:
        lines = counted(count, "damaged line")
        text = f"{path}: left out {lines} ({shortened(damaged, _LISTED)})"
        if say is None:
            _log.warning("%s", text)
        else:
            say(f"warning: {text}")


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
        # Half the time of `json.loads`.
        text = line.decode(errors="replace").strip()
        record, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or end < len(text):
        return None
    step, split = record.get("step"), record.get("split")
    fits = all(_is_array(value) for key, value in record.items() if key != "split")
    if type(step) is not int or not isinstance(split, str) or not fits:
        return None
    return record


def _is_array(value: Any, axes: int = 0) -> bool:
    """Whether ``value`` is a number that a float can be, None for NaN, or nested lists of these."""
    if value is None or isinstance(value, float):
        return True
    if isinstance(value, int):
        return -(2**63) < value < 2**63
    if not isinstance(value, list) or axes == _MOST_AXES:
        return False
    return all(_is_array(item, axes + 1) for item in value)
