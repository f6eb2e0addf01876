"""Searched cells: the shifted path of a reduction, dropped operations, rates by depth."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.nn.conv_norm import Layers
from vitjax.nn.searched_cell import (
    LAST,
    PREVIOUS,
    FactorizedReduction,
    Genotype,
    Identity,
    Pool,
    SearchedCell,
    cell_maker,
)
from vitjax.nn.window_pooling import average_pool, max_pool

IMAGES = np.random.default_rng(0).normal(size=(64, 4, 5, 2)).astype(np.float32)


@pytest.mark.parametrize("features", [4, 5])
def test_a_reduction_reads_every_second_pixel_and_those_between(features):
    """With kernels of ones a path is the sum of channels; odd sides have zeros at the end."""
    layers = Layers(kernel_init=nn.initializers.ones, epsilon=0.0)
    reduced, _ = FactorizedReduction(layers, features).init_with_output(jax.random.key(0), IMAGES)
    sums = np.maximum(IMAGES, 0).sum(-1)
    padded = np.pad(sums, ((0, 0), (0, 1), (0, 1)))
    assert reduced.shape == (64, 2, 3, features)
    for channel in range(features):
        expected = sums[:, ::2, ::2] if channel < features // 2 else padded[:, 1::2, 1::2]
        np.testing.assert_allclose(reduced[..., channel], expected, rtol=1e-5)


def test_operations_are_dropped_by_example_and_identities_are_not():
    pair = (Pool(PREVIOUS, "max"), Pool(PREVIOUS, "average"))
    genotype = Genotype((pair, (Identity(PREVIOUS), Identity(2))), (2, 3))
    cell = SearchedCell(Layers(train=True), genotype, 2, previous="keep", drop_path=0.75)
    variables = cell.init(
        {"params": jax.random.key(0), "dropout": jax.random.key(1)}, *2 * [IMAGES]
    )
    output, _ = cell.apply(
        variables, IMAGES, IMAGES, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"]
    )
    largest, mean = max_pool(IMAGES, 3, 1, 1), average_pool(IMAGES, 3, 1, 1)
    seen = set()
    for i in range(len(IMAGES)):
        kept = [
            (a, b)
            for a in (0, 4)
            for b in (0, 4)
            if np.allclose(output[i, ..., :2], a * largest[i] + b * mean[i], atol=1e-4)
        ]
        assert len(kept) == 1
        seen.update(kept)
    assert len(seen) == 4
    np.testing.assert_allclose(output[..., 2:], output[..., :2] + IMAGES, rtol=1e-6)


def test_rates_grow_with_the_depth_of_cells():
    class Net(nn.Module):
        @nn.compact
        def __call__(self):
            cell = cell_maker(Layers(), 4, 0.2, count_padding=True)
            return [cell(f"cell{i}", Genotype((), (LAST,)), 8) for i in range(4)]

    cells = Net().apply({})
    assert [each.drop_path for each in cells] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert all(each.count_padding for each in cells)


def test_strides_are_those_of_operations_on_the_two_maps():
    """And without convolutions of its own, an operation that fits has no parameters."""
    genotype = Genotype(
        ((Pool(LAST, "max"), Pool(PREVIOUS, "average")), (Pool(2, "max"), Identity(2))), (3,)
    )
    cell = SearchedCell(Layers(), genotype, 2, strides=2, previous="keep")
    shape = jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32)
    output, variables = jax.eval_shape(cell.init_with_output, jax.random.key(0), shape, shape)
    assert output.shape == (64, 2, 3, 2)
    assert set(variables["params"]) == {"project"}
    wider = cell.clone(features=3)
    _, variables = jax.eval_shape(wider.init_with_output, jax.random.key(0), shape, shape)
    assert set(variables["params"]) == {"project", "pair1_right"}
