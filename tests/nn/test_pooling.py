"""Max pooling against flax's, which pools by a window reduction, and its higher derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.nn.pooling import max_pool


def reference(x, size):
    return nn.max_pool(x, (size, size), (size, size), "VALID")


@pytest.mark.parametrize("ties", [False, True], ids=["no_ties", "ties"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 6, 8, 3), 2),
        ((2, 7, 5, 3), 2),
        ((1, 9, 10, 2), 3),
        ((3, 5, 4, 1), 4),
        ((2, 3, 3, 2), 1),
    ],
)
def test_values_and_gradients_are_those_of_flax(shape, size, ties):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, shape) if ties else rng.normal(size=shape)
    x = jnp.asarray(x, jnp.float32)
    weights = jnp.asarray(rng.normal(size=reference(x, size).shape), jnp.float32)

    def both(pool):
        return pool(x, size), jax.grad(lambda x: jnp.sum(pool(x, size) * weights))(x)

    found, expected = jax.jit(lambda: (both(max_pool), both(reference)))()
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_of_equal_pixels_the_first_has_the_gradient():
    x = jnp.asarray([[1, 3, 0, 0], [3, 3, 0, 0], [5, 5, 2, 7], [5, 9, 7, 7]], jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, 2) * jnp.arange(1.0, 5).reshape(2, 2, 1)))(
        x[None, :, :, None]
    )
    expected = [[0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 4], [0, 3, 0, 0]]
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize(("shape", "size"), [((2, 5, 6, 2), 2), ((1, 7, 6, 2), 3)])
@pytest.mark.parametrize("mapped", [False, True])
def test_second_and_third_derivatives_by_finite_differences(shape, size, mapped):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, along, other = (jnp.asarray(rng.normal(size=shape)) for _ in range(3))
        if mapped:
            pool = lambda x: jax.vmap(lambda x: max_pool(x[None], size)[0])(x)  # noqa: E731
        else:
            pool = lambda x: max_pool(x, size)  # noqa: E731

        def loss(x):
            return jnp.sum(pool(jnp.sin(x) + 0.1 * x**2) ** 4)

        def slope(x):
            return jnp.vdot(jax.grad(loss)(x), along)

        def curvature(x):
            return jnp.vdot(jax.grad(slope)(x), other)

        gradients = jax.jit(lambda x: [jax.grad(f)(x) for f in (loss, slope, curvature)])
        exact, step = gradients(x), 1e-5

        def difference(order, direction):
            ahead, behind = (gradients(x + sign * step * direction) for sign in (1, -1))
            return (ahead[order] - behind[order]) / (2 * step)

        np.testing.assert_allclose(exact[1], difference(0, along), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(exact[2], difference(1, other), rtol=1e-7, atol=1e-7)
        assert np.abs(exact[2]).max() > 0.1


def test_of_some_channels_the_smallest():
    rng = np.random.default_rng(2)
    x, weights = (jnp.asarray(rng.normal(size=s)) for s in ((2, 5, 6, 3), (2, 2, 3, 3)))
    lowest = jnp.asarray([True, False, True])
    sign = jnp.where(lowest, -1, 1)

    def both(pool):
        value, back = jax.vjp(pool, x)
        return value, *back(weights)

    found = jax.jit(lambda: both(lambda x: max_pool(x, 2, lowest)))()
    expected = jax.jit(lambda: both(lambda x: reference(x * sign, 2) * sign))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("lowest", [None, False, True])
@pytest.mark.parametrize("place", range(4))
def test_nan_is_pooled_and_has_the_gradient(place, lowest):
    x = jnp.arange(4.0).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    flag = None if lowest is None else jnp.asarray([lowest])
    pooled, back = jax.vjp(lambda x: max_pool(x, 2, flag), x)
    assert jnp.isnan(pooled).all()
    np.testing.assert_array_equal(back(jnp.ones_like(pooled))[0].ravel(), np.eye(4)[place])
