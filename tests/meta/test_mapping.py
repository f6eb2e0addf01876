"""Tasks in pieces: sums, order, and how many are computed at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import assert_trees

from vitjax import models
from vitjax.meta import Maml, mapping

EPISODES = {"x": np.arange(24.0).reshape(12, 2), "n": np.arange(12, dtype=np.int32)}


def double(episode):
    return {"twice": 2 * episode["x"], "n": episode["n"]}


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 6, 12])
def test_sums_and_order_for_any_number_of_pieces(pieces):
    weights = np.asarray([1, 0, 2, 1, 1, 0, 1, 1, 1, 3, 1, 1], np.float32)
    calls = []

    def function(episode):
        calls.append(episode["x"].shape)
        # An infinite loss of padding is nothing.
        return {"twice": 2 * episode["x"] / jnp.where(episode["n"] == 5, 0, 1), "one": jnp.ones(())}

    found = jax.jit(lambda t, w: mapping.sum_over_episodes(function, t, w, pieces))(
        EPISODES, weights
    )
    expected = np.sum(2 * EPISODES["x"] * weights[:, None], axis=0)
    np.testing.assert_allclose(found["twice"], expected)
    np.testing.assert_allclose(found["one"], weights.sum())
    # The function sees one episode, without a leading axis, mapped or not.
    assert set(calls) == {(2,)}
    mapped = jax.jit(lambda t: mapping.map_over_episodes(double, t, pieces))(EPISODES)
    assert_trees(mapped, {"twice": 2 * EPISODES["x"], "n": EPISODES["n"]}, 0, 0)
    assert mapped["n"].dtype == np.int32


def test_sums_of_low_precision_are_taken_in_float32():
    episodes = jnp.full((300, 1), 1.0, jnp.bfloat16)
    for pieces in (1, 300):
        found = mapping.sum_over_episodes(lambda x: x[0], episodes, jnp.ones(300), pieces)
        assert found.dtype == jnp.float32
        assert float(found) == 300


def test_pieces_are_computed_one_after_the_other():
    def largest(pieces):
        def total(weight, episodes):
            # The gradient is within, as objectives have it: that of a sum would keep all episodes.
            @jax.grad
            def gradient(weight, episode):
                return jnp.sum(
                    jnp.cumsum(jnp.sin(jnp.outer(episode, episode) * weight), axis=0) ** 2
                )

            return mapping.sum_over_episodes(
                lambda episode: gradient(weight, episode), episodes, jnp.ones(12), pieces
            )

        lowered = jax.jit(total).lower(jnp.ones(()), jnp.ones((12, 200)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert largest(12) < largest(1) / 4


def matrices(episode):
    return jnp.tanh(episode @ episode)


def shapes(number, side=100):
    return jax.ShapeDtypeStruct((number, side, side), jnp.float32)


# What `matrices` computes for one episode: a product and its tanh.
EPISODE_BYTES = 2 * 100 * 100 * 4


def test_bytes_of_values():
    episode = jax.ShapeDtypeStruct((100, 100), jnp.float32)
    assert mapping.bytes_of_values(matrices, episode) == EPISODE_BYTES

    def looped(episode):
        return jax.lax.scan(lambda x, _: (matrices(x), None), episode, length=7)[0]

    assert mapping.bytes_of_values(looped, episode) == 7 * EPISODE_BYTES
    assert mapping.bytes_of_values(jax.jit(matrices), episode) == EPISODE_BYTES


def test_a_cpu_takes_one_episode_at_a_time_where_all_do_not_fit_into_its_cache(monkeypatch):
    monkeypatch.setattr(mapping, "_CACHE_BYTES", 2 * EPISODE_BYTES + 1)
    assert mapping.pieces(matrices, shapes(8), platform="cpu") == 8
    assert mapping.pieces(matrices, shapes(3), platform="cpu") == 3
    assert mapping.pieces(matrices, shapes(2), platform="cpu") == 1
    # Each of the devices has a part of every piece, and a cache of its own.
    assert mapping.pieces(matrices, shapes(12), platform="cpu", devices=4) == 3
    assert mapping.pieces(matrices, shapes(8), platform="cpu", devices=4) == 1
    # Here JAX runs on a CPU.
    assert mapping.pieces(matrices, shapes(8)) == 8
    # Of one episode there is no choice, so nothing is traced.
    assert mapping.pieces(None, shapes(8), platform="cpu", devices=8) == 1


@pytest.mark.parametrize(
    ("name", "episodes", "shape", "examples", "fields", "pieces"),
    [
        ("mlp_sinusoid", 25, (1,), (10, 10), {"target": "number", "inner_steps": 1}, 1),
        ("mlp_sinusoid", 25, (1,), (10, 10), {"target": "number", "inner_steps": 5}, 1),
        ("conv4_omniglot", 4, (28, 28, 1), (5, 75), {"inner_steps": 1}, 4),
    ],
)
def test_small_networks_are_computed_all_at_once(name, episodes, shape, examples, fields, pieces):
    outputs = 1 if "target" in fields else 5
    objective = Maml(
        model=models.create(name, num_classes=outputs),
        num_classes=outputs,
        normalize=lambda inputs: inputs,
        **fields,
    )

    def part(number):
        target = np.zeros((number, 1), np.float32) if "target" in fields else np.zeros(number, int)
        return {
            "input": np.zeros((number, *shape), np.float32),
            "target": target,
            "mask": np.ones(number, bool),
        }

    one = {"support": part(examples[0]), "query": part(examples[1])}
    batch = jax.tree.map(lambda x: np.stack([x] * episodes), one)
    variables = jax.eval_shape(objective.init, jax.random.key(0), batch)
    variables = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), variables)
    params = variables.pop("params")

    def gradients(episode):
        return objective.episode_gradients(params, variables, episode, jax.random.key(0))

    assert mapping.pieces(gradients, batch, platform="cpu") == pieces


def test_an_accelerator_takes_what_its_memory_holds():
    def pieces(number, episodes_that_fit, **arguments):
        # A little over, so that rounding is of no account.
        memory = int((episodes_that_fit + 0.01) * EPISODE_BYTES / 0.8)
        return mapping.pieces(matrices, shapes(number), platform="gpu", memory=memory, **arguments)

    assert pieces(12, 100) == 1
    assert pieces(12, 12) == 1
    # Cut where all do not fit, into equal pieces.
    assert pieces(12, 11) == 2
    assert pieces(12, 5) == 3
    assert pieces(12, 1) == 12
    # An episode larger than the memory is tried alone.
    assert pieces(12, 0) == 12
    # Each device has a memory of its own.
    assert pieces(12, 3, devices=4) == 1
    assert pieces(12, 3, devices=2) == 2
    # A prime number of episodes has no other divisors.
    assert pieces(7, 6) == 7


def test_a_number_at_once_is_a_bound():
    for at_once, expected in ((1, 12), (2, 6), (4, 3), (5, 3), (7, 2), (12, 1), (99, 1)):
        assert mapping.pieces(None, shapes(12), at_once=at_once, platform="gpu") == expected
    assert mapping.pieces(None, shapes(12), at_once=2, devices=3) == 2
    # Too few for all devices, as when an objective is traced with one example.
    assert mapping.pieces(None, shapes(1), at_once=1, devices=8) == 1
    # Where a device does not tell its memory, all are computed at once.
    assert jax.local_devices()[0].memory_stats() is None
    assert mapping.pieces(matrices, shapes(12), platform="gpu") == 1
