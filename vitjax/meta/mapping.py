"""How many episodes a device computes in parallel: what is fast and fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from vitjax.core import jaxpr
from vitjax.objectives.batches import cut, join

# Fraction of a device's memory for the episodes computed in parallel, by `bytes_of_values`, which
# counts every intermediate value as if none were ever freed.
_MEMORY_FRACTION = 0.8
# Limit for a CPU's cache by `bytes_of_values`, several times its size for the same reason. All
# episodes of a small network of numbers stay below it, a single episode of images is far above.
_CACHE_BYTES = 64 * 2**20


def sum_over_episodes(
    function: Callable[[Any], Any], episodes: Any, weights: Any, pieces: int
) -> Any:
    """The sum of ``weight * function(episode)`` over all episodes.

    Args:
        function: maps one episode, a pytree of arrays, to a pytree of arrays.
        episodes: a pytree with a leading axis of episodes.
        weights: (episodes,).
        pieces: number of parts that are computed one after the other; the episodes of a part are
            computed in parallel.
    """

    def weighted(episode: Any, weight: Any) -> Any:
        def scale(value: Any) -> Any:
            value = value.astype(jnp.promote_types(value.dtype, jnp.float32))
            return jnp.where(weight > 0, value * weight.astype(value.dtype), 0)

        return jax.tree.map(scale, function(episode))

    def piece(part: Any) -> Any:
        if len(part[1]) == 1:
            # A batch axis of one would still turn every product into a batched one.
            return weighted(*jax.tree.map(lambda x: x[0], part))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(weighted)(*part))

    parts = jax.tree.map(lambda x: cut(x, pieces), (episodes, weights))
    if pieces == 1:
        return piece(jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(piece, jax.tree.map(lambda x: x[0], parts)),
    )

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, piece(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def map_over_episodes(function: Callable[[Any], Any], episodes: Any, pieces: int) -> Any:
    """``function`` of each episode, stacked in their order; arguments of `sum_over_episodes`."""

    def piece(part: Any) -> Any:
        if len(jax.tree.leaves(part)[0]) == 1:
            single = function(jax.tree.map(lambda x: x[0], part))
            return jax.tree.map(lambda x: x[None], single)
        return jax.vmap(function)(part)

    if pieces == 1:
        return piece(episodes)
    parts = jax.lax.map(piece, jax.tree.map(lambda x: cut(x, pieces), episodes))
    return jax.tree.map(join, parts)


def pieces(
    function: Callable[[Any], Any],
    episodes: Any,
    *,
    devices: int = 1,
    at_once: int | None = None,
    memory: int | None = None,
    platform: str | None = None,
) -> int:
    """The number of parts that `sum_over_episodes` should use.

    Measured on CPUs, computing one episode after the other is the fastest if the activations of all
    do not fit into the cache, as for images. If they do, as for a small network of few numbers, all
    episodes in parallel are the fastest. An accelerator computes as many in parallel as its memory
    holds.

    Args:
        function: of one episode; it is traced only, and only if there is a choice.
        episodes: a pytree of arrays or shapes with a leading axis of episodes.
        devices: number of devices that share each part.
        at_once: maximum number of episodes that a device computes in parallel; None to choose.
        memory: bytes of a device's memory; None to read it from the device.
        platform: of the devices; None for JAX's default backend.
    """
    number = len(jax.tree.leaves(episodes)[0])
    if number % devices:
        return 1  # fewer episodes than devices, as in a trace of one example
    share = number // devices
    if at_once is None and share > 1:
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), episodes)
        if (platform or jax.default_backend()) == "cpu":
            fits = bytes_of_values(function, one) * share < _CACHE_BYTES
            at_once = share if fits else 1
        else:
            memory = memory or _memory()
            at_once = (
                share
                if memory is None
                else int(_MEMORY_FRACTION * memory / bytes_of_values(function, one))
            )
    at_once = max(1, min(at_once or 1, share))
    while share % at_once:
        at_once -= 1
    return share // at_once


def bytes_of_values(function: Callable[..., Any], *arguments: Any) -> int:
    """The bytes of all intermediate values of ``function(*arguments)``, with loops unrolled.

    An upper bound of its memory: XLA frees and fuses values.
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
    """The memory of one device in bytes; None if the device does not report it."""
    statistics = jax.local_devices()[0].memory_stats()
    return statistics.get("bytes_limit") if statistics else None
