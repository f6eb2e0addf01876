"""Reptile: the gradient is the way back from where plain training on the episode leads."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_episodes import close, episode, episodes, identity, mlp, variables

from vitjax.core.errors import ConfigError
from vitjax.meta import Reptile
from vitjax.meta.reptile import minibatches, pack, unpack
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training import experiment
from vitjax.training.step import make_evaluate_step, make_train_step

KEY = jax.random.key(3)


def reptile(norm="none", **arguments):
    return Reptile(model=mlp(3, norm), num_classes=3, normalize=identity, **arguments)


def support_loss(objective, params, part):
    logits = objective.model.apply({"params": params}, part["input"], train=True)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, part["target"])
    return jnp.mean(losses)


def test_the_gradient_is_the_way_back_from_a_loop_of_adam():
    objective = reptile(inner_steps=5, inner_batch_size=5, inner_learning_rate=0.02)
    batch = episodes(number=2)
    params, state = variables(objective, batch)
    one = episode(batch)
    gradients, (new, metrics) = jax.jit(objective.episode_gradients)(params, state, one, KEY)

    rows = minibatches(jax.random.fold_in(KEY, 0), one["support"]["mask"], 5, 5)
    optimizer = optax.adam(0.02, b1=0.0)
    theta = phi = params["model"]
    adam = optimizer.init(phi)
    losses = []
    for row in np.asarray(rows):
        part = {key: value[row] for key, value in one["support"].items()}
        loss, slope = jax.value_and_grad(partial(support_loss, objective))(phi, part)
        updates, adam = optimizer.update(slope, adam)
        phi = optax.apply_updates(phi, updates)
        losses.append(loss)
    close(gradients["model"], jax.tree.map(jnp.subtract, theta, phi), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"].value(), np.mean(losses), rtol=1e-5)
    counts = [value for name, value in new["inner_optimizer"].items() if name.endswith("count")]
    assert float(counts[0]) == 5


def test_the_outer_gradient_is_the_mean_over_episodes():
    objective = reptile(inner_steps=2, inner_batch_size=None, inner_learning_rate=0.1)
    batch = episodes(number=4)
    params, state = variables(objective, batch)
    batch["mask"] = np.array([True, True, False, True])
    both, _ = jax.jit(objective.gradients)(params, state, batch, KEY)
    each = [
        jax.jit(objective.episode_gradients)(params, state, episode(batch, i), KEY)
        for i in (0, 1, 3)
    ]
    mean = jax.tree.map(lambda *g: sum(g) / 3, *(gradient for gradient, _ in each))
    close(both, mean, rtol=1e-3, atol=1e-6)


def test_a_single_step_of_gradient_descent_is_the_plain_gradient_times_its_rate():
    objective = reptile(
        inner_steps=1,
        inner_batch_size=None,
        inner_optimizer={"name": "sgd"},
        inner_learning_rate=0.25,
    )
    batch = episodes()
    params, state = variables(objective, batch)
    gradients, _ = jax.jit(objective.episode_gradients)(params, state, episode(batch), KEY)
    slope = jax.grad(partial(support_loss, objective))(params["model"], episode(batch)["support"])
    close(gradients["model"], jax.tree.map(lambda g: 0.25 * g, slope), rtol=1e-3, atol=1e-6)


def test_what_is_fixed_has_no_gradient():
    objective = reptile(fixed=("head/",), inner_steps=1)
    batch = episodes()
    params, state = variables(objective, batch)
    gradients, _ = jax.jit(objective.gradients)(params, state, batch, KEY)
    assert not np.any(gradients["model"]["head"]["kernel"])
    assert np.any(gradients["model"]["dense1"]["kernel"])


@pytest.mark.parametrize(("real", "size"), [(7, 3), (7, 7), (2, 5), (1, 2)])
def test_minibatches_go_through_all_examples_before_any_comes_again(real, size):
    mask = jnp.asarray(np.random.default_rng(0).permutation(np.arange(9) < real))
    rows = np.asarray(minibatches(KEY, mask, 8, size))
    assert rows.shape == (8, size)
    draws = rows.ravel()
    whole = len(draws) // real * real
    passes = draws[:whole].reshape(-1, real)
    assert np.all(np.sort(passes, axis=1) == np.flatnonzero(mask))
    assert len(np.unique(draws[whole:])) == len(draws) - whole
    if real == 7:
        assert len(np.unique(passes, axis=0)) > 1, "passes are shuffled again"


def test_the_moments_of_adam_live_on_from_step_to_step():
    objective = reptile(inner_steps=3)
    optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(1.0)))
    batch = episodes()
    params, state = variables(objective, batch)
    before = state["inner_optimizer"]
    assert all(leaf.dtype == jnp.float32 for leaf in before.values())
    state = TrainState.create({"params": params, **state}, optimizer.init(params), seed=0, ema=True)
    step = jax.jit(make_train_step(objective, optimizer, ema_decay=0.9))
    for done in (3, 6):
        state, _ = step(state, batch)
        inner = state.model_state["inner_optimizer"]
        assert {float(v) for name, v in inner.items() if name.endswith("count")} == {done}
    names = [name for name in inner if ".nu." in name]
    assert names
    assert all(np.all(inner[name] > 0) for name in names if "kernel" in name)
    jax.jit(make_evaluate_step(objective.evaluate))(state.variables, batch)


def test_evaluation_starts_from_the_kept_moments():
    objective = reptile(test_steps=2, inner_learning_rate=0.05)
    batch = episodes()
    params, state = variables(objective, batch)
    grown = {
        name: value + 100 if ".nu." in name else value
        for name, value in state["inner_optimizer"].items()
    }
    # A count at which no bias is left to correct.
    grown = {name: value + 1e6 if "count" in name else value for name, value in grown.items()}
    measure = jax.jit(objective.measure)
    fresh = measure({"params": params, **state}, batch)["transductive"]["loss"]
    kept = measure({"params": params, "inner_optimizer": grown}, batch)["transductive"]["loss"]
    assert fresh.shape == (2, 3)
    np.testing.assert_array_equal(fresh[:, 0], kept[:, 0])
    assert np.all(np.abs(kept[:, 0] - kept[:, -1]) < 0.2 * np.abs(fresh[:, 0] - fresh[:, -1]))


def test_an_optimizers_state_survives_packing():
    optimizer = optax.adamw(1.0)
    params = {"dense/kernel": jnp.ones((2, 3)), "bias": jnp.zeros(2)}
    _, state = optimizer.update(params, optimizer.init(params), params)
    close(unpack(pack(state), jax.eval_shape(lambda: state)), state)
    with pytest.raises(ConfigError, match="uint32"):
        pack({"key": jnp.zeros(2, jnp.uint32)})


def test_running_statistics_move_by_the_mean_of_the_steps():
    objective = reptile("batch", inner_steps=4, inner_batch_size=3, test_steps=2, test_batch_size=5)
    batch = episodes()
    params, state = variables(objective, batch)
    _, (new, _) = jax.jit(objective.gradients)(params, state, batch, KEY)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    mean = new["batch_stats"]["norm1"]["mean"]
    assert np.any(mean != 0)
    # Four steps would have kept 0.9^4 of a variance of one, a single mean keeps 0.9.
    assert np.all(new["batch_stats"]["norm1"]["var"] > 0.9)
    metrics = jax.jit(objective.evaluate)({"params": params, **new}, batch)
    assert set(metrics) == {
        f"{name}{mode}" for name in ("loss", "accuracy") for mode in ("", "_inductive", "_before")
    }
    assert float(metrics["loss"].value()) != float(metrics["loss_inductive"].value())


@pytest.mark.parametrize(
    "wrong", [{"inner_batch_size": 0}, {"test_batch_size": -1}, {"inner_steps": 0}]
)
def test_invalid_values_are_errors(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        reptile(**wrong)


def test_the_papers_config_runs_in_the_trainer():
    built = experiment.build(
        {
            "model": {"name": "conv4_omniglot", "filters": 4, "depth": 2},
            "data": {
                "source": "glyphs",
                "classes": 40,
                "image_size": 8,
                "batch_size": 2,
                "episodes": {"train_shots": 10, "train_queries": 1, "queries": 2},
            },
            "objective": {"name": "reptile", "inner_steps": 5, "test_steps": 2},
            "optimizer": {"name": "sgd", "learning_rate": 1.0},
            "schedule": {"name": "linear"},
            "train": {"steps": 4},
            "parallel": {"devices": 1},
        }
    )
    state = built.initial_state()
    step = jax.jit(make_train_step(built.objective, built.optimizer))
    place = built.place_batch()
    losses = []
    with built.data.train_batches() as batches:
        for _ in range(2):
            state, metrics = step(state, place(next(batches)))
            losses.append(float(metrics["loss"].value()))
    assert np.all(np.isfinite(losses))
    assert float(built.optimizer.learning_rate(0)) == 1
    assert float(built.optimizer.learning_rate(4)) == 0
    with pytest.raises(ConfigError, match="first_order"):
        experiment.build({**built.config, "objective": {"name": "reptile", "first_order": False}})


def test_a_pattern_without_a_match_is_an_error():
    objective, batch = reptile(fixed=["^haed"]), episodes()
    with pytest.raises(ConfigError, match=r"objective.fixed: '.haed' .* did you mean 'head'"):
        objective.init(KEY, batch)
