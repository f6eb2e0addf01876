"""A lower bound of the memory that a run needs, compared with what is there before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from vitjax.core import jaxpr
from vitjax.core.machine import Memory, check_memory, device_memory
from vitjax.data.dataset import Dataset
from vitjax.objectives.base import Objective
from vitjax.objectives.interfaces import Classifier
from vitjax.parallel.base import Parallel

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
        accumulation_steps: the micro-batches of a training batch.
    """

    data: Dataset | None
    objective: Objective
    variables: Any
    further: Any
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
    device, states, batches = _split(parallel)
    held = _bytes_of((needs.variables, needs.further))
    what = "config.model: what a run keeps of its parameters"
    check_memory(held // states, what, "make it smaller", device)
    for key, size, evaluated in _batches(needs):
        assert needs.data is not None
        example = needs.data.example_batch(evaluated=evaluated)
        batch = size * _bytes_of(example) // jax.process_count()
        where = f"config.data.{key} is {size}"
        what = f"{where}: a batch of {_words(example)}"
        if needs.data.store is None:
            check_memory(batch, what)
        else:  # the devices look up its images
            check_memory(size * _bytes_of(example) // batches, what, "", device)
        if device.size is None or held + batch < device.size * _SUSPECT:
            continue
        parts = batches * (1 if evaluated else needs.accumulation_steps)
        largest = _largest(needs, example, max(1, size // parts), evaluated=evaluated)
        check_memory(largest, f"{where}: one layer of config.model", "", device)


def _batches(needs: Needs) -> Iterator[tuple[str, int, bool]]:
    """For each kind of batch its key in section ``data``, its size, and whether it is evaluated."""
    data = needs.data
    if data is None:
        return
    objective = needs.objective
    # Features that are computed once are those of evaluation batches.
    cached = isinstance(objective, Classifier) and objective.caches_features
    if needs.further is not None and not cached:
        yield "batch_size", data.batch_size, False
    # Without a size of its own, an evaluation has that of training, rounded to the devices.
    own = not data.batch_size <= data.eval_batch_size < 2 * data.batch_size
    yield "eval_batch_size" if own else "batch_size", data.eval_batch_size, True


def _split(parallel: Parallel) -> tuple[Memory, int, int]:
    """The memory of a device, and into how many such a state and a batch may be split."""
    device = parallel.devices[0]
    if device.platform == "cpu":  # the devices of a process share the memory of its machine
        return device_memory(device), jax.process_count(), jax.process_count()
    return device_memory(device), len(parallel.devices), parallel.batch_shards


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


def _largest(needs: Needs, example: Any, size: int, *, evaluated: bool) -> int:
    """The bytes of the largest product or convolution with a batch of ``size`` examples.

    It is that of an evaluation, or of the loss or the gradient of a training step; 0 for an
    objective that declares neither.
    """
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), example)

    def cost(equation: core.JaxprEqn) -> int | None:
        if equation.primitive.name not in _KEPT:
            return None
        return max(
            math.prod(v.aval.shape) * np.dtype(v.aval.dtype).itemsize  # type: ignore[attr-defined]
            for v in equation.outvars
        )

    objective = needs.objective
    if evaluated:
        return jaxpr.largest(objective.evaluate, needs.variables, batch, cost=cost)
    method = type(objective)
    if method.update is not Objective.update:
        return 0
    step: Callable[..., Any] = objective.loss
    if method.gradients is not Objective.gradients:
        step = objective.gradients
    state = {name: value for name, value in needs.variables.items() if name != "params"}
    rng = jax.eval_shape(lambda: jax.random.key(0))
    return jaxpr.largest(step, needs.variables["params"], state, batch, rng, cost=cost)
