"""Reports of work that takes long: how far it is, and that a step is being compiled."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax
from tqdm import tqdm

from vitjax.core.text import Say, duration

Item = TypeVar("Item")

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
        bar = tqdm(
            total=total,
            desc=what,
            unit="batch",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
        )
        began = spoken = time.monotonic()
        with contextlib.closing(bar):
            for done, result in enumerate(_one_behind(results), start=1):
                # Steps are launched long before they are computed.
                jax.block_until_ready(result)
                bar.update()
                now = time.monotonic()
                if bar.disable and now - spoken >= self._every and done < total:
                    spoken = now
                    left = duration((now - began) / done * (total - done))
                    self._say(f"{what}: {done} of {total} batches, about {left} left")
                yield result


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
