"""A lower bound of the memory that a run needs, compared with what is there before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from vitjax.core import jaxpr
from vitjax.core.errors import ConfigError
from vitjax.core.machine import gigabytes, memory_bytes
from vitjax.data.dataset import Dataset
from vitjax.objectives.base import Objective
from vitjax.parallel.base import Parallel

# Of a process that only imports what reading examples needs.
_WORKER_BYTES = 50 * 2**20
# Outputs of other operations may never exist as arrays: compilers fuse them into what reads them.
_KEPT = frozenset(("dot_general", "conv_general_dilated"))
# Below this part of the memory, tracing at the complete size cannot find anything.
_SUSPECT = 1 / 256


class Needs(NamedTuple):
    """What a run keeps and computes with.

    Attributes:
        data: its batch sizes are those of the complete batches; None if no batch of it is read.
        objective: of the run.
        variables: the shapes of its variables.
        further: the shapes of what training keeps beside them; None if the run is only evaluated.
        workers: processes that read examples.
        accumulation_steps: the micro-batches of a training batch.
    """

    data: Dataset | None
    objective: Objective
    variables: Any
    further: Any
    workers: int
    accumulation_steps: int


def check(needs: Needs, parallel: Parallel) -> None:
    """Checks that a batch, the state and the largest array of a forward pass fit into memory.

    Each is compared alone with all the memory of a device, used or not, or on CPUs with that of the
    machine: what is refused cannot work. Much that passes cannot work either.

    Args:
        needs: of the run.
        parallel: how the run uses its devices.

    Raises:
        ConfigError: something does not fit; the message has the numbers and the keys to change.
    """
    machine = memory_bytes()
    if needs.data is not None:
        _compare(
            needs.workers * _WORKER_BYTES,
            machine,
            f"config.data.workers is {needs.workers}: so many processes need",
            "this machine",
        )
    held = _bytes_of((needs.variables, needs.further))
    device = _memory_of(parallel, machine)
    _compare(
        held // device.states,
        device.size,
        "config.model: its parameters and what a run keeps of them need",
        device.name,
    )
    for key, size, evaluated in _batches(needs):
        assert needs.data is not None
        example = needs.data.example_batch(evaluated=evaluated)
        batch = size * _bytes_of(example) // jax.process_count()
        what = f"config.data.{key} is {size}: a batch of {_words(example)} needs"
        _compare(batch, machine, what, "this machine")
        if device.size is None or held + batch < device.size * _SUSPECT:
            continue
        micro_batches = device.batches * (1 if evaluated else needs.accumulation_steps)
        largest = _largest(needs, example, max(1, size // micro_batches))
        what = f"config.data.{key} is {size}: one layer of config.model makes an array of it, of"
        _compare(largest, device.size, what, device.name)


def _compare(needed: int, there: int | None, what: str, where: str) -> None:
    if there is not None and needed > there:
        raise ConfigError(
            f"{what} at least {gigabytes(needed)} of memory, and {where} has {gigabytes(there)} in"
            " all"
        )


def _batches(needs: Needs) -> Iterator[tuple[str, int, bool]]:
    """For each kind of batch its key in section ``data``, its size, and whether it is evaluated."""
    data = needs.data
    if data is None:
        return
    if needs.further is not None:
        yield "batch_size", data.batch_size, False
    # Without a size of its own, an evaluation has that of training, rounded to the devices.
    own = not data.batch_size <= data.eval_batch_size < 2 * data.batch_size
    yield "eval_batch_size" if own else "batch_size", data.eval_batch_size, True


class _Memory(NamedTuple):
    """Memory that arrays are in.

    Attributes:
        size: in bytes; None if it is not known.
        name: what has it.
        states: into how many parts a state may be split, one of which is in this memory.
        batches: into how many parts a batch is split.
    """

    size: int | None
    name: str
    states: int
    batches: int


def _memory_of(parallel: Parallel, machine: int | None) -> _Memory:
    """The memory of one device."""
    device = parallel.devices[0]
    if device.platform == "cpu":  # the devices of a process share the memory of its machine
        return _Memory(machine, "this machine", jax.process_count(), jax.process_count())
    size = (device.memory_stats() or {}).get("bytes_limit")
    return _Memory(size, "a device", len(parallel.devices), parallel.batch_shards)


def _bytes_of(tree: Any) -> int:
    return sum(
        math.prod(np.shape(leaf)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
    )


def _words(example: Any) -> str:
    """The largest array of one example, in words."""
    shape, dtype = max(
        ((leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(example)),
        key=lambda found: math.prod(found[0]) * np.dtype(found[1]).itemsize,
    )
    return f"examples of {' x '.join(map(str, shape)) or '1'} {dtype}"


def _largest(needs: Needs, example: Any, size: int) -> int:
    """The bytes of the largest product or convolution in evaluating ``size`` examples."""
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), example)

    def cost(equation: core.JaxprEqn) -> int | None:
        if equation.primitive.name not in _KEPT:
            return None
        return max(
            math.prod(v.aval.shape) * np.dtype(v.aval.dtype).itemsize  # type: ignore[attr-defined]
            for v in equation.outvars
        )

    return jaxpr.largest(needs.objective.evaluate, needs.variables, batch, cost=cost)
