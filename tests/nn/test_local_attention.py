"""Self-attention over footprints against loops over pixels, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vitjax.nn.conv_norm import Layers
from vitjax.nn.local_attention import PairwiseAttention, PatchwiseAttention, aggregate, footprint

SHAPE, SIZE, SHARED = (2, 3, 5, 4), 5, 2


def inside(place, length):
    """The pixel of a map that a place beyond its border shows."""
    return length - 1 - abs(length - 1 - abs(place))


def neighbours(x, size):
    """`footprint` of one image, pixel by pixel."""
    height, width, channels = x.shape
    found = np.zeros((size, height, size, width, channels))
    for i, y, j, z in np.ndindex(*found.shape[:4]):
        found[i, y, j, z] = x[inside(y + i - size // 2, height), inside(z + j - size // 2, width)]
    return found


def made(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_footprints_are_mirrored_at_the_border():
    x = made(0, *SHAPE)
    with jax.enable_x64():
        found = jax.jit(footprint, static_argnums=1)(x, SIZE)
    np.testing.assert_array_equal(found, np.stack([neighbours(each, SIZE) for each in x]))


def test_a_map_within_its_footprint_is_an_error():
    with pytest.raises((TypeError, ValueError)):
        footprint(jnp.ones((1, 2, 9, 1)), 5)


def test_channels_share_weights_in_turn():
    values, weights = made(0, *SHAPE), made(1, 2, SIZE, 3, SIZE, 5, SHARED)
    with jax.enable_x64():
        found = jax.jit(aggregate)(values, weights)
    for x, each, expected in zip(values, weights, found, strict=True):
        parts = neighbours(x, SIZE)
        for channel in range(4):
            weighed = each[..., channel % SHARED] * parts[..., channel]
            np.testing.assert_allclose(weighed.sum((0, 2)), expected[..., channel], atol=1e-12)


def test_derivatives_of_first_and_second_order():
    values, weights = made(0, 1, 3, 3, 2), made(1, 1, 3, 3, 3, 3, 1)
    with jax.enable_x64():
        check_grads(jax.jit(aggregate), (jnp.asarray(values), jnp.asarray(weights)), order=2)


@pytest.mark.parametrize("kind", [PairwiseAttention, PatchwiseAttention])
def test_the_derivative_of_a_layer_is_its_finite_difference(kind):
    with jax.enable_x64():
        layer = kind(Layers(dtype=jnp.float64, param_dtype=jnp.float64), 4, 2, share=2, size=3)
        x, step = jnp.asarray(made(0, 1, 3, 4, 3)), jnp.asarray(made(1, 1, 3, 4, 3))
        variables = jax.jit(layer.init)(jax.random.key(0), x)
        # Fresh biases are zero, with which a ReLU has its kink at each pixel's own place.
        start, moved = (
            jax.tree.map(lambda leaf, seed=seed: made(seed, *leaf.shape), variables["params"])
            for seed in (2, 3)
        )

        def along(t):
            params = jax.tree.map(lambda leaf, each: leaf + t * each, start, moved)
            y = layer.apply({**variables, "params": params}, x + t * step)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape))

        slope = jax.jit(jax.grad(along))(0.0)
        small = 1e-6
        there, back = (float(jax.jit(along)(t)) for t in (small, -small))
    np.testing.assert_allclose((there - back) / (2 * small), slope, rtol=1e-6)
    assert abs(float(slope)) > 1e-3
