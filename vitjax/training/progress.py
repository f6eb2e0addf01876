"""Reports of work that takes long: how far it is, and that a step is being compiled."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
from tqdm import tqdm

from vitjax.core.text import Say, duration

Item = TypeVar("Item")
# Receives how much more is done.
Counter = Callable[[int], None]

# Compilation is reported if it takes longer than this, in seconds.
PATIENCE = 5.0
_EVERY = 20.0  # seconds between lines


class Progress:
    """Shows how far a pass over batches is: a bar on a terminal, otherwise a line now and then.

    Args:
        say: receives the lines; the bar is drawn on standard error.
        every: seconds between lines.
    """

    def __init__(self, say: Say, every: float = _EVERY):
        self._say, self._every = say, every

    def over(self, results: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """``results``, each complete on its device before it is counted.

        Args:
            results: arrays of each batch, or pytrees of arrays.
            total: the number of batches.
            what: what is done, such as ``"evaluating test"``.
        """
        with self.counting(total, what, ("batch", "batches")) as count:
            for result in _one_behind(results):
                # Steps are launched long before they are computed.
                jax.block_until_ready(result)
                count(1)
                yield result

    @contextlib.contextmanager
    def counting(self, total: int, what: str, unit: tuple[str, str]) -> Iterator[Counter]:
        """Yields a function that is called with how much more is done, for work of a library.

        Args:
            total: how much there is to do.
            what: what is done.
            unit: what is counted, one and many.
        """
        bar = tqdm(
            total=total,
            desc=what,
            unit=unit[0],
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
        )
        began = spoken = time.monotonic()
        done = 0

        def count(more: int) -> None:
            nonlocal done, spoken
            done += more
            bar.update(more)
            now = time.monotonic()
            if bar.disable and now - spoken >= self._every and done < total:
                spoken = now
                left = duration((now - began) / done * (total - done))
                self._say(f"{what}: {done} of {total} {unit[1]}, about {left} left")

        with contextlib.closing(bar):
            yield count


def _one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """``items``, each after the next one was requested: one step computes while another waits."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


@contextlib.contextmanager
def noted_if_long(say: Say, text: str, seconds: float = PATIENCE) -> Iterator[None]:
    """Says ``text`` once the work inside has taken longer than ``seconds``."""
    timer = threading.Timer(seconds, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
