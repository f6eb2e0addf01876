"""LeNet-5 of the paper: the numbers of Sec. II-B, connections, codes, initial weights, losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax import models
from vitjax.models.lenet import CONNECTIONS, PartialConv, output_codes

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
LABELS = np.array([3, 8])


@pytest.fixture(scope="module")
def network():
    model = models.create("lenet5_paper")
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES)


def test_every_layer_has_the_parameters_of_the_paper(network):
    layers = network[1]["params"].items()
    assert {name: sum(leaf.size for leaf in layer.values()) for name, layer in layers} == {
        "stage1_conv": 156,
        "stage1_pool": 12,
        "stage2_conv": 1_516,
        "stage2_pool": 32,
        "c5": 48_120,
        "f6": 10_164,
    }


def test_maps_of_c3_read_those_of_the_table(network):
    model, variables = network
    layer = PartialConv(model.layers(train=False))
    params = {"params": variables["params"]["stage2_conv"]}
    slopes = jax.jit(jax.jacobian(lambda s2: layer.apply(params, s2)))(jnp.ones((1, 5, 5, 6)))
    reads = np.abs(slopes).sum((0, 1, 2, 4, 5, 6)) > 0
    assert [tuple(np.flatnonzero(row)) for row in reads] == list(CONNECTIONS)
    # Every set of three and of four neighbours, in a ring; of four, two pairs; and all.
    starts = reads & ~np.roll(reads, 1, axis=1)
    assert reads.sum(1).tolist() == [3] * 6 + [4] * 9 + [6]
    assert starts.sum(1).tolist() == [1] * 12 + [2] * 3 + [0]
    assert len(set(CONNECTIONS)) == 16
    # Sec. II-B and Table I: as many connections of each map of S2.
    assert reads.sum(0).tolist() == [10] * 6


def test_initial_weights_are_within_the_bounds_of_the_paper(network):
    params = network[1]["params"]
    inputs = {"stage1_conv": 25, "stage1_pool": 4, "stage2_pool": 4, "c5": 400, "f6": 120}
    for name, number in inputs.items():
        values = np.concatenate([np.ravel(leaf) for leaf in params[name].values()])
        assert 0.8 < np.abs(values).max() * number / 2.4 <= 1, name
    # The bound of a map of C3 is that of its own inputs.
    maps = [len(each) for each in CONNECTIONS]
    largest = np.abs(params["stage2_conv"]["kernel"]).max((0, 1)) * 25 * np.repeat(maps, maps)
    assert 0.6 < (largest / 2.4).min() <= (largest / 2.4).max() <= 1


def drawn(rows):
    return ["".join("#" if pixel > 0 else "." for pixel in row) for row in rows]


def test_ten_classes_have_the_bitmaps_of_digits():
    codes = output_codes(10)
    assert codes.shape == (10, 84)
    assert np.abs(codes).min() == np.abs(codes).max() == 1
    one = drawn(codes[1].reshape(12, 7))
    assert one[:3] == ["...##..", "..###..", ".####.."]
    assert one[3:] == ["...##.."] * 6 + [".######", ".......", "......."]
    # Digits that are alike have similar codes.
    different = (codes[:, None] != codes).sum(-1) + 84 * np.eye(10)
    assert np.unravel_index(different.argmin(), different.shape) == (6, 8)


def test_other_numbers_of_classes_have_random_codes():
    codes = output_codes(200)
    np.testing.assert_array_equal(codes[:7], output_codes(7))
    assert np.abs(codes).min() == np.abs(codes).max() == 1
    assert abs(codes.mean()) < 0.03
    different = (codes[:, None] != codes).sum(-1)[np.triu_indices(200, 1)]
    assert different.min() > 20
    assert drawn(codes[:3, :8]) == ["######..", ".###.#..", "#.....#."]


def test_the_cross_entropy_of_the_logits_is_the_loss_of_the_paper(network):
    model, variables = network
    states = jax.jit(model.headless().apply)(variables, IMAGES)
    assert states.shape == (2, 84)
    assert np.abs(states).max() < 1.7159
    penalties = ((np.asarray(states)[:, None] - output_codes(10)) ** 2).sum(-1)
    logits = jax.jit(model.apply)(variables, IMAGES)
    np.testing.assert_allclose(logits, -penalties, rtol=1e-5)
    right = penalties[np.arange(2), LABELS]
    for j in (30.0, 90.0):
        expected = right + np.log(np.exp(-j) + np.exp(-penalties).sum(1))
        more = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=-j)
        loss = optax.softmax_cross_entropy_with_integer_labels(more, LABELS)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
    limit = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    np.testing.assert_allclose(limit, right + np.log(np.exp(-penalties).sum(1)), rtol=1e-4)


def test_every_layer_has_a_gradient(network):
    model, variables = network

    def loss(variables):
        logits = model.apply(variables, IMAGES)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables)):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)
