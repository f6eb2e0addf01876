"""Sums over equations count loops as often as they run, and enter whatever holds a jaxpr."""

import jax
import jax.numpy as jnp
import pytest

from vitjax.core.jaxpr import jaxprs_within, total

X = jax.ShapeDtypeStruct((3,), jnp.float32)


def sines(function, **arguments):
    """How often ``function`` computes a sine."""

    def cost(equation):
        return None if jaxprs_within(equation) else int(equation.primitive.name == "sin")

    return total(function, X, cost=cost, **arguments)


@jax.custom_jvp
def own_derivative(x):
    return jnp.sin(x)


own_derivative.defjvps(lambda tangent, value, x: tangent * jnp.cos(x))


def loop(body, length):
    return lambda x: jax.lax.scan(lambda carry, _: (body(carry), None), x, length=length)[0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (jnp.cos, 0),
        (lambda x: jnp.sin(x) + jnp.sin(x + 1), 2),
        (jax.jit(jnp.sin), 1),
        (jax.vmap(jnp.sin), 1),
        (jax.checkpoint(jnp.sin), 1),
        (loop(jnp.sin, 7), 7),
        (loop(loop(jax.jit(jnp.sin), 3), 5), 15),
        (lambda x: jax.lax.while_loop(lambda y: y[0] > 0, jnp.sin, x), 1),
        (own_derivative, 1),
    ],
)
def test_equations_are_counted_wherever_they_are(function, expected):
    assert sines(function) == expected


def test_branches_are_combined_as_asked():
    def either(x):
        return jax.lax.switch(jnp.int32(x[0]), [jnp.cos, jnp.sin, loop(jnp.sin, 4)], x)

    assert sines(either) == 5
    assert sines(either, branches=max) == 4
    # A scan of a cond: the length applies to the combined branches.
    assert sines(loop(either, 10), branches=max) == 40


def test_an_equation_with_a_cost_of_its_own_is_not_entered():
    def cost(equation):
        return 100 if equation.primitive.name == "scan" else None

    assert total(loop(jnp.sin, 7), X, cost=cost) == 100
    assert total(jnp.sin, X, cost=cost) == 0
