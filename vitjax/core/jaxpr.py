"""Sums and maxima over the equations of a traced function, its loops and branches included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.extend import core


def total(
    function: Callable[..., Any],
    *arguments: Any,
    cost: Callable[[core.JaxprEqn], int | None],
    branches: Callable[[Iterable[int]], int] = sum,
) -> int:
    """The sum of ``cost`` over the equations of ``function(*arguments)``, which is traced only.

    The body of a ``scan`` counts as often as it runs, that of a ``while`` loop, whose length is
    unknown, once.

    Args:
        function: any JAX function.
        *arguments: arrays or `jax.ShapeDtypeStruct`.
        cost: of one equation; None for the sum over the jaxprs within the equation, such as the
            body of a loop or of a jitted function, which is 0 where it has none.
        branches: combines the sums of the branches of a ``cond``, such as `max`.
    """

    def of_jaxpr(jaxpr: core.Jaxpr) -> int:
        return sum(of_equation(equation) for equation in jaxpr.eqns)

    def of_equation(equation: core.JaxprEqn) -> int:
        own = cost(equation)
        if own is not None:
            return own
        inner = [of_jaxpr(jaxpr) for jaxpr in jaxprs_within(equation)]
        if equation.primitive.name == "cond":
            return branches(inner)
        repeats: int = equation.params["length"] if equation.primitive.name == "scan" else 1
        return sum(inner) * repeats

    closed: Any = jax.make_jaxpr(function)(*arguments)
    return of_jaxpr(closed.jaxpr)


def largest(
    function: Callable[..., Any],
    *arguments: Any,
    cost: Callable[[core.JaxprEqn], int | None],
) -> int:
    """The largest ``cost`` of an equation of ``function(*arguments)``, which is traced only.

    Args:
        function: any JAX function.
        *arguments: arrays or `jax.ShapeDtypeStruct`.
        cost: as of `total`.
    """

    def of_jaxpr(jaxpr: core.Jaxpr) -> int:
        return max((of_equation(equation) for equation in jaxpr.eqns), default=0)

    def of_equation(equation: core.JaxprEqn) -> int:
        own = cost(equation)
        return max(map(of_jaxpr, jaxprs_within(equation)), default=0) if own is None else own

    closed: Any = jax.make_jaxpr(function)(*arguments)
    return of_jaxpr(closed.jaxpr)


def jaxprs_within(equation: core.JaxprEqn) -> list[core.Jaxpr]:
    """The jaxprs among the parameters of ``equation``, in their order."""
    values = [
        value
        for parameter in equation.params.values()
        for value in (parameter if isinstance(parameter, tuple | list) else (parameter,))
    ]
    return [
        value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
        for value in values
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr)
    ]
