"""Batch normalisation against flax's, and what is handed over from its neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.nn.batch_norm import BatchNorm
from vitjax.nn.pooling import max_pool

FIELDS = {"momentum": 0.8, "epsilon": 1e-3}


def layers(dtype="float64", **fields):
    both = {**FIELDS, **fields, "dtype": dtype, "param_dtype": dtype}
    return BatchNorm(**both), nn.BatchNorm(**both)


def drawn(shape, seed=0):
    """Inputs, weights of a loss, and variables of which every second scale is negative."""
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, channels) + rng.normal(size=channels)
    scale = rng.uniform(0.5, 2, channels) * (-1.0) ** np.arange(channels)
    variables = {
        "params": {"scale": scale, "bias": rng.normal(size=channels)},
        "batch_stats": {
            "mean": rng.normal(size=channels),
            "var": rng.uniform(0.5, 2, channels),
        },
    }
    offset = rng.normal(size=channels)
    return jax.tree.map(jnp.asarray, (x, rng.normal(size=shape), variables, offset))


def results(apply, x, weights, variables):
    """Outputs, new statistics, first derivatives, and second ones along all ones."""

    def loss(params, x):
        y, state = apply({**variables, "params": params}, x)
        return jnp.sum(jnp.sin(y) * weights[tuple(map(slice, y.shape))]), (y, state)

    def slope(params, x):
        gradients = jax.grad(loss, (0, 1), has_aux=True)(params, x)[0]
        return sum(jnp.sum(leaf * jnp.cos(leaf)) for leaf in jax.tree.leaves(gradients))

    params = variables["params"]
    gradients, (y, state) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
    return y, state, gradients, jax.grad(slope, (0, 1))(params, x)


def agree(found, expected, rtol=1e-10, atol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (9, 7)])
def test_numbers_are_those_of_flax(shape, running):
    with jax.enable_x64(True):
        x, weights, variables, _ = drawn(shape)

        def run(layer):
            return results(
                lambda v, x: layer.apply(v, x, mutable=["batch_stats"]), x, weights, variables
            )

        ours, theirs = layers(use_running_average=running)
        found, expected = jax.jit(lambda: (run(ours), run(theirs)))()
        agree(found, expected)
        old, new = variables["batch_stats"], found[1]["batch_stats"]
        for name in ("mean", "var"):
            moved = np.abs(new[name] - old[name]).max()
            assert moved == 0 if running else moved > 0.01


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_initial_variables_and_dtypes_are_those_of_flax(dtype):
    x = jnp.ones((2, 4, 4, 3), dtype)
    ours, theirs = (
        layer.clone(param_dtype="float32") for layer in layers(dtype, use_running_average=False)
    )
    found, expected = (layer.init(jax.random.key(0), x) for layer in (ours, theirs))
    agree(found, expected, 0, 0)
    y, state = ours.apply(found, x, mutable=["batch_stats"])
    assert y.dtype == jnp.dtype(dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("way", ["vmap", "pmap"])
def test_statistics_over_an_axis_are_those_of_the_whole(way):
    with jax.enable_x64(True):
        x, weights, variables, _ = drawn((16, 4, 4, 3))
        layer = BatchNorm(False, **FIELDS, dtype="float64", param_dtype="float64")
        over = layer.clone(axis_name="data")

        def run(layer, x, weights):
            def loss(params, x):
                y, state = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
                return jnp.sum(jnp.sin(y) * weights), (y, state)

            return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)

        (by_params, by_x), (y, state) = jax.jit(lambda: run(layer, x, weights))()
        mapped = jax.vmap if way == "vmap" else jax.pmap
        parts = (x.reshape(8, 2, 4, 4, 3), weights.reshape(8, 2, 4, 4, 3))
        (part_params, part_x), (part_y, part_state) = mapped(
            lambda x, weights: run(over, x, weights), axis_name="data"
        )(*parts)
        agree(part_y.reshape(y.shape), y)
        agree(part_x.reshape(x.shape), by_x)
        agree(jax.tree.map(lambda leaf: leaf.sum(0), part_params), by_params)
        for device in (0, 7):
            agree(jax.tree.map(lambda leaf, i=device: leaf[i], part_state), state)
        # Without the axis each part stands for itself.
        alone = jax.vmap(lambda x, weights: run(layer, x, weights))(*parts)
        assert np.abs(alone[1][0].reshape(y.shape) - y).max() > 0.1


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("side", [6, 7])
def test_pooling_first_is_pooling_after(side, running):
    with jax.enable_x64(True):
        x, weights, variables, _ = drawn((4, side, 6, 4))
        layer, _ = layers(use_running_average=running)

        def first(variables, x):
            return layer.apply(variables, x, pool=2, mutable=["batch_stats"])

        def after(variables, x):
            y, state = layer.apply(variables, x, mutable=["batch_stats"])
            return max_pool(y, 2), state

        found, expected = jax.jit(
            lambda: [results(f, x, weights, variables) for f in (first, after)]
        )()
        agree(found, expected)
        assert found[0].shape == (4, side // 2, 3, 4)


@pytest.mark.parametrize("running", [False, True])
def test_a_bias_left_over_is_a_bias_added_before(running):
    with jax.enable_x64(True):
        x, weights, variables, offset = drawn((4, 6, 6, 3))
        variables["params"]["offset"] = offset
        layer, _ = layers(use_running_average=running)

        def split(variables):
            params = dict(variables["params"])
            return params.pop("offset"), {**variables, "params": params}

        def left(variables, x):
            offset, variables = split(variables)
            return layer.apply(variables, x, pool=2, offset=offset, mutable=["batch_stats"])

        def added(variables, x):
            offset, variables = split(variables)
            y, state = layer.apply(variables, x + offset, mutable=["batch_stats"])
            return max_pool(y, 2), state

        found, expected = jax.jit(
            lambda: [results(f, x, weights, variables) for f in (left, added)]
        )()
        agree(found, expected)
        by_offset = found[2][0]["offset"]
        # The batch's mean takes the bias away again; a running one does not.
        assert (np.abs(by_offset).max() > 0.1) == running
        if not running:
            np.testing.assert_array_equal(by_offset, 0)
            moved = found[1]["batch_stats"]["mean"] - 0.8 * variables["batch_stats"]["mean"]
            np.testing.assert_allclose(moved, 0.2 * ((x + offset).mean((0, 1, 2))), rtol=1e-10)


def test_a_channel_far_from_zero_is_no_worse_than_with_flax():
    rng = np.random.default_rng(0)
    x = 1000 + rng.normal(size=(32, 8, 8, 16))
    # What float32 can hold of the inputs is exact.
    x = np.asarray(x, np.float32).astype(np.float64)
    exact = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    errors = []
    fields = {"use_running_average": False, "epsilon": 1e-5}
    for layer in (BatchNorm(**fields), nn.BatchNorm(**fields)):
        images = jnp.asarray(x, jnp.float32)
        variables = layer.init(jax.random.key(0), images)
        found, _ = jax.jit(lambda v, x, layer=layer: layer.apply(v, x, mutable=["batch_stats"]))(
            variables, images
        )
        errors.append(float(np.sqrt(np.mean((np.asarray(found, np.float64) - exact) ** 2))))
    assert errors[0] <= 1.2 * errors[1] + 1e-6
    assert errors[0] < 0.1
