"""Layer normalisation has the numbers of flax's, and of the formula's derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.nn.layer_norm import LayerNorm

EPSILON = 1e-5


@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 5, 16)], ids=str)
def test_values_and_two_derivatives(shape):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, weights = 3 * rng.normal(size=shape) + 1, rng.normal(size=shape)
        scale, bias = rng.normal(size=(2, shape[-1]))
        wide = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        ours = LayerNorm(EPSILON, **wide)
        flax = nn.LayerNorm(EPSILON, use_fast_variance=False, **wide)

        def derivatives(layer):
            def loss(params, x):
                return jnp.sum(weights * jnp.sin(layer.apply({"params": params}, x)))

            def slope(params, x):
                slopes = jax.grad(loss, (0, 1))(params, x)
                return sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(slopes))

            params = {"scale": scale, "bias": bias}
            return [f(params, x) for f in (loss, jax.grad(loss, (0, 1)), jax.grad(slope, (0, 1)))]

        found, expected = jax.jit(lambda: [derivatives(layer) for layer in (ours, flax)])()
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert np.abs(b).max() > 1e-3
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


def test_moments_of_half_precision_are_in_float32():
    x = jnp.asarray(1000 + np.arange(64.0).reshape(1, 64) / 8, jnp.float16)
    layer = LayerNorm(dtype=jnp.float16)
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    assert y.dtype == jnp.float16
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean()) / np.sqrt(exact.var() + layer.epsilon)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, atol=2e-3)


def test_parameters_are_those_of_flax():
    x = jnp.ones((2, 4))
    ours, flax = (m.init(jax.random.key(0), x) for m in (LayerNorm(), nn.LayerNorm()))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), ours, flax))
