"""Walks over the equations of a traced function, its loops and branches included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import jax
from jax.extend import core

Value = TypeVar("Value")


class Rules(Protocol[Value]):
    """What `propagate` knows of an array, and how equations change it.

    Attributes:
        constant: the value of literals and constants.
    """

    constant: Value

    def outputs(
        self,
        equation: core.JaxprEqn,
        inputs: Sequence[Value],
        within: tuple[core.JaxprEqn, ...],
    ) -> Sequence[Value]:
        """The values of an equation's outputs.

        Args:
            equation: it is not entered; it may have jaxprs within.
            inputs: the values of its inputs.
            within: the equations whose jaxprs it is in, the outermost first.
        """
        ...

    def unstacked(self, value: Value) -> Value:
        """The value of an array without its first axis, along which a ``scan`` runs."""
        ...

    def stacked(self, value: Value) -> Value:
        """The value of an array with a new first axis."""
        ...


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
    closed: Any = jax.make_jaxpr(function)(*arguments)
    return total_of(closed.jaxpr.eqns, cost, branches)


def total_of(
    equations: Iterable[core.JaxprEqn],
    cost: Callable[[core.JaxprEqn], int | None],
    branches: Callable[[Iterable[int]], int] = sum,
) -> int:
    """As `total`, of equations that are traced already."""

    def of_equation(equation: core.JaxprEqn) -> int:
        own = cost(equation)
        if own is not None:
            return own
        inner = [sum(map(of_equation, jaxpr.eqns)) for jaxpr in jaxprs_within(equation)]
        if equation.primitive.name == "cond":
            return branches(inner)
        repeats: int = equation.params["length"] if equation.primitive.name == "scan" else 1
        return sum(inner) * repeats

    return sum(map(of_equation, equations))


def propagate(jaxpr: core.Jaxpr, arguments: Sequence[Value], rules: Rules[Value]) -> list[Value]:
    """Computes with values in place of arrays, in the order of computation.

    Jitted and custom functions are entered, and a ``scan`` once per iteration. Other equations with
    jaxprs within (``cond``, ``while``) are given to the rules as they are.

    Args:
        jaxpr: of the traced function.
        arguments: the values of its inputs.
        rules: how equations change values.

    Returns:
        The values of the function's outputs.
    """

    def run(
        jaxpr: core.Jaxpr, inputs: Sequence[Value], within: tuple[core.JaxprEqn, ...]
    ) -> list[Value]:
        known: dict[Any, Value] = dict.fromkeys(jaxpr.constvars, rules.constant)
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Value:
            return rules.constant if isinstance(variable, core.Literal) else known[variable]

        for equation in jaxpr.eqns:
            outputs = step(equation, [*map(read, equation.invars)], within)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def step(
        equation: core.JaxprEqn, inputs: list[Value], within: tuple[core.JaxprEqn, ...]
    ) -> Sequence[Value]:
        inner = jaxprs_within(equation)
        if equation.primitive.name == "scan":
            fixed, carried = equation.params["num_consts"], equation.params["num_carry"]
            constants, carry = inputs[:fixed], inputs[fixed : fixed + carried]
            slices = [rules.unstacked(value) for value in inputs[fixed + carried :]]
            each: list[Value] = []
            for _ in range(equation.params["length"]):
                found = run(inner[0], [*constants, *carry, *slices], (*within, equation))
                carry, each = found[:carried], found[carried:]
            return [*carry, *map(rules.stacked, each)]
        # The derivatives of custom functions are functions, not jaxprs.
        called = len(inner) == 1 and equation.primitive.name not in ("cond", "while")
        if called and len(inner[0].invars) == len(inputs):
            return run(inner[0], inputs, (*within, equation))
        return rules.outputs(equation, inputs, within)

    return run(jaxpr, arguments, ())


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
