"""How many tasks are computed at once: as many as are fast, and no more than fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from vitjax.core import jaxpr
from vitjax.objectives.batches import cut, join

# Share of a device's memory that the tasks computed at once may fill by `bytes_of_values`, which
# counts every intermediate as if none were ever freed.
_MEMORY_SHARE = 0.8
# What a CPU's cache is taken to bear by `bytes_of_values`, several times its size for the same
# reason. All tasks of a small network of numbers stay below, a single one of images is far above.
_CACHE_BYTES = 64 * 2**20


def sum_over_tasks(function: Callable[[Any], Any], tasks: Any, weights: Any, pieces: int) -> Any:
    """The sum of ``weight * function(task)`` over all tasks.

    Args:
        function: of one task, a pytree of arrays to another.
        tasks: a pytree with a leading axis of tasks.
        weights: (tasks,).
        pieces: into how many parts the tasks are cut, which are computed one after the other; all
            tasks of a part are computed at once.
    """

    def weighted(task: Any, weight: Any) -> Any:
        def scale(value: Any) -> Any:
            value = value.astype(jnp.promote_types(value.dtype, jnp.float32))
            return jnp.where(weight > 0, value * weight.astype(value.dtype), 0)

        return jax.tree.map(scale, function(task))

    def piece(part: Any) -> Any:
        if len(part[1]) == 1:
            # A batch axis of one would still make every product a batched one.
            return weighted(*jax.tree.map(lambda x: x[0], part))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(weighted)(*part))

    parts = jax.tree.map(lambda x: cut(x, pieces), (tasks, weights))
    if pieces == 1:
        return piece(jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(piece, jax.tree.map(lambda x: x[0], parts)),
    )

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, piece(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def map_over_tasks(function: Callable[[Any], Any], tasks: Any, pieces: int) -> Any:
    """``function`` of each task, stacked in the order of the tasks; ``pieces`` as above."""

    def piece(part: Any) -> Any:
        if len(jax.tree.leaves(part)[0]) == 1:
            single = function(jax.tree.map(lambda x: x[0], part))
            return jax.tree.map(lambda x: x[None], single)
        return jax.vmap(function)(part)

    if pieces == 1:
        return piece(tasks)
    parts = jax.lax.map(piece, jax.tree.map(lambda x: cut(x, pieces), tasks))
    return jax.tree.map(join, parts)


def pieces(
    function: Callable[[Any], Any],
    tasks: Any,
    *,
    devices: int = 1,
    at_once: int | None = None,
    memory: int | None = None,
    platform: str | None = None,
) -> int:
    """Into how many parts `sum_over_tasks` should cut the tasks.

    Measured on CPUs, one task after the other is the fastest where the activations of all would not
    fit into the cache, as those of images; where they do, as those of a small network of few
    numbers, all at once are. An accelerator takes as many at once as its memory holds.

    Args:
        function: of one task; it is traced, not run, and only where there is a choice.
        tasks: a pytree of arrays, or shapes, with a leading axis of tasks.
        devices: over which each part is spread.
        at_once: the most tasks that a device shall compute at once; None to choose.
        memory: of a device in bytes; None asks it.
        platform: None: where JAX runs.
    """
    number = len(jax.tree.leaves(tasks)[0])
    if number % devices:
        return 1  # too few tasks for all devices, as in a trace of one example
    share = number // devices
    if at_once is None and share > 1:
        task = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tasks)
        if (platform or jax.default_backend()) == "cpu":
            fits = bytes_of_values(function, task) * share < _CACHE_BYTES
            at_once = share if fits else 1
        else:
            memory = memory or _memory()
            at_once = (
                share
                if memory is None
                else int(_MEMORY_SHARE * memory / bytes_of_values(function, task))
            )
    at_once = max(1, min(at_once or 1, share))
    while share % at_once:
        at_once -= 1
    return share // at_once


def bytes_of_values(function: Callable[..., Any], *arguments: Any) -> int:
    """The bytes of all that ``function(*arguments)`` computes on its way, loops unrolled.

    More than it needs at any time, as XLA frees and fuses; never much less.
    """

    def cost(equation: core.JaxprEqn) -> int | None:
        if jaxpr.jaxprs_within(equation):
            return None
        return sum(
            v.aval.size * v.aval.dtype.itemsize  # type: ignore[attr-defined]
            for v in equation.outvars
        )

    return max(1, jaxpr.total(function, *arguments, cost=cost))


def _memory() -> int | None:
    """The memory of one device in bytes, where it tells."""
    statistics = jax.local_devices()[0].memory_stats()
    return statistics.get("bytes_limit") if statistics else None
