"""Batches read ahead: Grain's iterator, closed in time, with what went wrong taken out."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from vitjax.core.machine import process_cores
from vitjax.core.silence import silence_pillow
from vitjax.data.errors import DataError
from vitjax.data.image_files import transform_in_the_calling_thread
from vitjax.data.share import ENDLESS

_MAX_THREADS = 16
# Worker processes take seconds to start, so a short evaluation is quicker without them.
_MIN_BATCHES_PER_WORKER = 32

# Signals to the process group that the trainer answers alone.
_OF_TRAINER = (signal.SIGINT, signal.SIGTERM)

# Rides in a batch from a worker to `BatchIterator`, which takes it out: what went wrong, as JSON in
# an array of bytes. An exception would arrive with the worker's traceback.
_REPORT = "_report"

# Names to arrays; the batches of episodes hold such dicts too.
Batch = dict[str, Any]


def report(content: dict[str, Any]) -> Batch:
    """The entry of a batch that tells `BatchIterator` of an "error", or what was "skipped"."""
    return {_REPORT: np.frombuffer(json.dumps(content).encode(), np.uint8).copy()}


class Batches(Protocol):
    """Batches by number: picklable, and the same for every caller and order of calls."""

    @property
    def cheap(self) -> bool:
        """Whether making a batch takes less time than a thread needs to hand it over."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


class BatchIterator(Iterator[Batch]):
    """Batches, read ahead in threads or worker processes.

    Close it when done with it, or use it in a ``with`` statement: worker processes end then.
    """

    def __init__(
        self,
        batches: Batches,
        workers: int,
        note_skipped: Callable[[Mapping[str, str]], None],
    ):
        """Starts to read ahead.

        Args:
            batches: what to iterate over.
            workers: processes that make batches, if there are enough batches; 0 for threads of this
                process. Cheap batches are made when they are asked for.
            note_skipped: receives the corrupt images of a batch and what is wrong with each.
        """
        self._batches = batches
        self._note_skipped = note_skipped
        if batches.cheap or len(batches) < _MIN_BATCHES_PER_WORKER * workers:
            workers = 0
        made = (batches[index] for index in range(len(batches)))
        self._iterators: list[Any] = [made if batches.cheap else _read_ahead(batches, workers)]
        # Also at the interpreter's exit, before the modules that closing needs are gone.
        self._finalizer = weakref.finalize(self, _close, self._iterators, bool(workers))

    def __iter__(self) -> BatchIterator:
        return self

    def __len__(self) -> int:
        """The number of batches.

        Raises:
            TypeError: they are training batches, which have no end.
        """
        if len(self._batches) == ENDLESS:
            raise TypeError("training batches have no end")
        return len(self._batches)

    def __next__(self) -> Batch:
        if not self._iterators:
            raise StopIteration
        try:
            batch = next(self._iterators[0])
        except StopIteration:
            self.close()
            raise
        reported = batch.pop(_REPORT, None)
        if reported is not None:
            content = json.loads(bytes(reported))
            if "error" in content:
                self.close()
                raise DataError(content["error"])
            self._note_skipped(content["skipped"])
        return batch

    def __enter__(self) -> BatchIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends threads and worker processes."""
        self._finalizer()


def _read_ahead(batches: Batches, workers: int) -> Any:
    """Grain's iterator, in threads or worker processes."""
    threads = max(1, min(_MAX_THREADS, process_cores() // max(workers, 1)))
    dataset = grain.MapDataset.source(batches).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    )
    if workers:
        # Grain reads its absl flags, which only programs of absl.app have parsed. Only its own are
        # marked as present: those of the program, if it has any, are still to be parsed.
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = True
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
            worker_init_fn=_Worker(),
        )
    return iter(dataset)


class _Worker:
    """Sets up a worker, which survives signals to the process group: the trainer ends it.

    It also ends with the trainer, if that is killed. Python's resource tracker then removes the
    batches in shared memory, for it waits for the last process that may use them.

    A worker that a signal ends while it starts would leave the trainer waiting for ever, with both
    ends of the pipe to it. So signals are held back before there is a process: Grain pickles this
    in the thread that starts the worker, right before, and a process has the mask of that thread.
    """

    def __reduce__(self) -> tuple[type[_Worker], tuple[()]]:
        # The thread is Grain's, and does nothing else. That of the program has to hear signals.
        if threading.current_thread() is not threading.main_thread():
            # Started here if it is not: starting it ends the mask.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TRAINER)
        return _Worker, ()

    def __call__(self, index: int, count: int) -> None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        transform_in_the_calling_thread()
        silence_pillow()
        for name in _OF_TRAINER:
            signal.signal(name, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_TRAINER)


def _end_with_parent() -> None:
    """Ends this process when the process that started it has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _close(iterators: list[Any], workers: bool) -> None:
    """Closes and forgets Grain's iterator."""
    if iterators:
        iterators.pop().close()
        if workers:
            # Grain's iterators over workers refer to each other, and their destructors fail loudly
            # at the interpreter's exit.
            gc.collect()
