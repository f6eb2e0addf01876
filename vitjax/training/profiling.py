"""The speed of a run without pauses, and traces of a window of steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax


class Clock:
    """Training time, with compilation, and speed without it; neither has evaluations."""

    def __init__(self, batch_size: int, earlier: dict[str, Any] | None = None):
        self.batch_size = batch_size
        # The measurements of earlier sessions of the run.
        self._earlier = earlier or {"seconds": 0.0, "steady_steps": 0, "steady_seconds": 0.0}
        self.trained = 0.0
        self._steady_steps, self._steady_seconds = 0, 0.0
        self._since = time.perf_counter()
        self._laps = 0
        self._pauses: dict[str, float] = dict(self._earlier.get("pauses") or {})

    @property
    def seconds(self) -> float:
        """Seconds of training, over all sessions of the run."""
        return self._earlier["seconds"] + self.trained

    @property
    def examples_per_second(self) -> float:
        """The speed of the run, without the first report of each session, which compiles."""
        now = self.state()
        if not now["steady_seconds"]:
            return 0.0
        return now["steady_steps"] * self.batch_size / now["steady_seconds"]

    @property
    def compiled_in_last_lap(self) -> bool:
        """Whether the last lap was the first of the process, which has the compilation in it."""
        return self._laps == 1

    @property
    def split(self) -> dict[str, float]:
        """Seconds over all sessions: of ``steps`` with ``data``, of which ``data`` is waiting.

        Also of each other ``what`` of `stopped`, which is no part of `seconds`.
        """
        none = dict.fromkeys(("data", "evaluation", "checkpoints"), 0.0)
        return {"steps": self.seconds, **none, **self._pauses}

    def state(self) -> dict[str, Any]:
        """The measurements, for a later session to resume from."""
        return {
            "seconds": self.seconds,
            "steady_steps": self._earlier["steady_steps"] + self._steady_steps,
            "steady_seconds": self._earlier["steady_seconds"] + self._steady_seconds,
            "pauses": dict(self._pauses),
        }

    def lap(self, steps: int) -> float:
        """Ends a lap of ``steps`` steps, and returns its examples per second."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self.trained += seconds
        # The only lap of a session includes compilation: a low number is better than none.
        if self._laps <= 1:
            self._steady_steps, self._steady_seconds = 0, 0.0
        self._laps += 1
        self._steady_steps += steps
        self._steady_seconds += seconds
        return steps * self.batch_size / seconds

    @contextlib.contextmanager
    def stopped(self, what: str) -> Iterator[None]:
        """The time spent inside does not count; `split` has it under ``what``."""
        before = time.perf_counter()
        yield
        passed = time.perf_counter() - before
        self._since += passed
        self._add(what, passed)

    def waiting(self, items: Iterable[Any]) -> Iterator[Any]:
        """``items``; `split` has the seconds that it takes to get them under ``data``."""
        iterator = iter(items)
        while True:
            before = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._add("data", time.perf_counter() - before)
            yield item

    def _add(self, what: str, seconds: float) -> None:
        self._pauses[what] = self._pauses.get(what, 0.0) + seconds


class Profiler:
    """Traces a window of steps for TensorBoard and Perfetto.

    Args:
        window: (first, end): steps first to end - 1 are traced; None traces nothing.
        folder: the folder of the trace.
        say: receives a message when the trace is written.
    """

    def __init__(self, window: tuple[int, int] | None, folder: Path, say: Callable[[str], None]):
        self.window, self.folder, self.say, self.on = window, folder, say, False

    def __enter__(self) -> Profiler:
        return self

    def before(self, step: int, state: Any) -> None:
        """Starts or stops the trace; called before each step with the state that it receives."""
        if self.window is None:
            return
        if not self.on and self.window[0] <= step < self.window[1]:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self.folder), create_perfetto_trace=True)
            self.on = True
        elif self.on and step == self.window[1]:
            jax.block_until_ready(state)
            self._stop()

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.on:
            self.on = False
            jax.profiler.stop_trace()
            self.say(f"The profile is in {self.folder}")
