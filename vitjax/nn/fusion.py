"""Control over which operations XLA computes in one loop on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

P = ParamSpec("P")
Result = TypeVar("Result")


def computed_once(function: Callable[P, Result]) -> Callable[P, Result]:
    """``function`` as a computation that XLA does not fuse with what reads its result, on a CPU.

    XLA's fusion on CPUs computes an elementwise operation again in each loop that reads its result,
    with all elementwise operations before it. A sum of many residual branches is then added up from
    the first branch in every block, and the time of a step grows with the square of the depth. On
    other devices the function does not change.

    Args:
        function: a function of arrays. Wrap it once, outside of the function that is traced.
    """
    compiled = jax.jit(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> Result:
        if jax.default_backend() != "cpu":
            return function(*arguments, **keywords)
        with set_xla_metadata(inlineable="false"):
            return compiled(*arguments, **keywords)

    return call
