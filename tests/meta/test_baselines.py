"""The baselines: ordinary training on everything, and what episodes then get out of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_episodes import WIDTH, close, episode, episodes, identity, mlp, variables

import vitjax.data
from vitjax import parallel
from vitjax.core.errors import ConfigError
from vitjax.meta import FineTuning, NearestCentroid
from vitjax.meta.gradient_based import GradientBased, Learner
from vitjax.models.mlp import MLP
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.training.step import make_train_step

KEY = jax.random.key(0)
CLASSES = 6


def baseline(kind, norm="none", *, outputs=None, **arguments):
    return kind(
        model=mlp(outputs, norm),
        num_classes=3,
        num_train_classes=CLASSES,
        normalize=identity,
        **arguments,
    )


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (FineTuning, {}),
        (NearestCentroid, {}),
        (NearestCentroid, {"transform_features": "center_l2"}),
    ],
)
def test_training_is_ordinary_classification_of_all_images(kind, arguments):
    objective = baseline(kind, "batch", **arguments)
    batch = episodes(number=3)
    params, state = variables(objective, batch)
    assert params["model"]["head"]["kernel"].shape == (8, CLASSES)
    batch["query"]["mask"][0, :2] = False
    gradients, (new, metrics) = jax.jit(objective.gradients)(params, state, batch, KEY)

    inputs = np.concatenate(
        [batch[part]["input"].reshape(-1, WIDTH) for part in batch if part != "mask"]
    )
    number = np.concatenate([batch[part]["class"].ravel() for part in batch if part != "mask"])
    mask = np.concatenate([batch[part]["mask"].ravel() for part in batch if part != "mask"])

    def loss(model):
        logits, new = objective.model.apply(
            {"params": model, "batch_stats": state["batch_stats"]},
            inputs,
            train=True,
            mutable=["batch_stats"],
        )
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, number)
        return jnp.sum(losses * mask) / np.sum(mask), new

    (value, statistics), slope = jax.value_and_grad(loss, has_aux=True)(params["model"])
    np.testing.assert_allclose(metrics["loss"].value(), value, rtol=1e-5)
    assert float(metrics["loss"].count) == 3 * 18 - 2
    close(gradients["model"], slope, rtol=1e-3, atol=1e-5)
    close(new["batch_stats"], statistics["batch_stats"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_two_devices_train_as_one(mode):
    batch = episodes(number=4)
    batch["support"]["mask"][0, :3] = False
    optimizer = Optimizer(optax.with_extra_args_support(optax.sgd(0.1)))
    results = []
    for way in (parallel.create(mode="jit", devices=1), parallel.create(mode=mode, devices=2)):
        objective = baseline(
            NearestCentroid, "batch", transform_features="l2", devices=len(way.devices)
        )
        params, state = variables(objective, batch)
        state = TrainState.create({"params": params, **state}, optimizer.init(params), seed=0)
        over = objective.over_axis(way.axis_name) if way.axis_name else objective
        step = way.compile(make_train_step(over, optimizer))
        state = way.place_state(state)
        for _ in range(2):
            state, _ = step(state, way.place_batch(batch))
        state = way.fetch(state)
        results.append(jax.tree.map(np.asarray, (state.params, state.model_state)))
    close(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("transform", ["none", "l2", "center_l2"])
def test_the_nearest_centroid_of_what_lies_apart_is_the_right_one(distance, transform):
    objective = baseline(NearestCentroid, distance=distance, transform_features=transform)
    batch = episodes(number=3, spread=0.02)
    params, state = variables(objective, batch)
    _, (state, _) = jax.jit(objective.gradients)(params, state, batch, KEY)
    metrics = jax.jit(objective.evaluate)({"params": params, **state}, batch)
    assert float(metrics["accuracy"].value()) == 1
    assert float(metrics["accuracy_inductive"].value()) == 1


def test_the_features_are_those_before_the_head_less_their_mean():
    objective = baseline(NearestCentroid, transform_features="center_l2")
    batch = episodes(number=2)
    params, state = variables(objective, batch)
    rest = {name: tree for name, tree in params["model"].items() if name != "head"}
    features = partial(mlp(None).apply, {"params": rest})
    everything = jnp.concatenate(
        [features(batch[p]["input"].reshape(-1, WIDTH)) for p in ("support", "query")]
    )
    for _ in range(2):
        _, (state, _) = jax.jit(objective.gradients)(params, state, batch, KEY)
    center = state["feature_mean"]["total"] / state["feature_mean"]["weight"]
    np.testing.assert_allclose(center, everything.mean(axis=0), rtol=1e-4, atol=1e-6)
    seen = features(batch["query"]["input"][0]) - center
    seen = seen / jnp.linalg.norm(seen, axis=1, keepdims=True)
    ours = objective.transform(features(batch["query"]["input"][0]), state)
    np.testing.assert_allclose(ours, seen, rtol=1e-4, atol=1e-5)


def test_fine_tuning_trains_a_new_head_for_the_episode():
    objective = baseline(FineTuning, "batch", test_steps=20, inner_learning_rate=0.5)
    batch = episodes(number=2, spread=0.2)
    params, state = variables(objective, batch)
    measured = jax.jit(objective.measure)({"params": params, **state}, batch)
    for mode in ("transductive", "inductive"):
        losses = measured[mode]["loss"]
        assert losses.shape == (2, 21)
        np.testing.assert_allclose(losses[:, 0], np.log(3), rtol=1e-5)
        assert np.all(losses[:, -1] < 0.6 * losses[:, 0])
    assert not np.allclose(measured["transductive"]["loss"], measured["inductive"]["loss"])

    one = episode(batch)
    learner = Learner(objective, objective.network, params, state, one)
    before = learner.support_loss(learner.leaves(), 0)[0]
    leaves = learner.adapt(20)
    assert float(learner.support_loss(leaves, 20)[0]) < 0.5 * float(before)
    close(leaves["dense1/kernel"], params["model"]["dense1"]["kernel"])


@pytest.mark.parametrize("fixed", [(), ("bias$",)])
def test_features_computed_once_are_those_computed_at_every_step(fixed):
    objective = baseline(
        FineTuning, "batch", test_steps=3, fixed=fixed, inductive_statistics="support"
    )
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    one = episode(batch)
    once = jax.jit(objective.answer_episode)(params, state, one)
    each = jax.jit(partial(GradientBased.answer_episode, objective))(params, state, one)
    close(once, each, rtol=1e-3, atol=1e-5)


def test_all_of_a_network_can_be_tuned():
    objective = baseline(FineTuning, "batch", test_steps=2, adapted=("",), inner_learning_rate=0.5)
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    learner = Learner(objective, objective.network, params, state, episode(batch))
    leaves = learner.adapt(2)
    assert np.any(leaves["dense1/kernel"] != params["model"]["dense1"]["kernel"])
    measured = jax.jit(objective.measure)({"params": params, **state}, batch)
    assert measured["inductive"]["accuracy"].shape == (1, 3)


def test_regression_learns_the_mean_of_all_sinusoids():
    data = vitjax.data.create(
        source="sinusoid", batch_size=32, episodes={"shots": 10, "queries": 10}
    )
    objective = FineTuning(
        model=MLP(num_classes=FineTuning.model_outputs(data), weight_init="uniform"),
        num_classes=data.num_classes,
        num_train_classes=data.num_train_classes,
        normalize=data.normalize,
        target="number",
        test_steps=5,
        inner_learning_rate=0.02,
    )
    optimizer = Optimizer(optax.with_extra_args_support(optax.adam(0.01)))
    step = jax.jit(make_train_step(objective, optimizer))
    with data.train_batches() as batches:
        variables = objective.init(jax.random.key(0), data.example_batch())
        state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0)
        for _ in range(400):
            state, _ = step(state, next(batches))
        batch = next(batches)
    x = jnp.linspace(-5, 5, 50)[:, None]
    outputs = objective.model.apply({"params": state.params["model"]}, x)
    # Amplitudes of 2.55 and phases from 0 to pi, in the mean.
    mean = -2.55 * 2 / np.pi * np.cos(x)
    assert np.mean(np.square(outputs - mean)) < 0.3 * np.mean(np.square(mean))
    metrics = jax.jit(objective.evaluate)(state.variables, batch)
    assert set(metrics) == {"loss", "loss_inductive", "loss_before"}
    assert float(metrics["loss"].value()) < float(metrics["loss_before"].value())


def test_a_head_too_small_for_the_training_classes_is_an_error():
    with pytest.raises(ConfigError, match="num_classes is 5; the data has 6"):
        baseline(FineTuning, outputs=5)
    assert baseline(FineTuning, outputs=9).model.num_classes == 9


def test_invalid_values_are_errors():
    with pytest.raises(ConfigError, match=r"transform_features is 'l3'.*center_l2"):
        baseline(NearestCentroid, transform_features="l3")
    with pytest.raises(ConfigError, match="regression"):
        baseline(NearestCentroid, target="number")
    with pytest.raises(ConfigError, match="test_steps"):
        baseline(FineTuning, test_steps=None)


def test_a_pattern_without_a_match_is_an_error():
    objective, batch = baseline(FineTuning, adapted=["^haed"]), episodes()
    with pytest.raises(ConfigError, match=r"objective.adapted: '.haed' .* did you mean 'head'"):
        objective.init(KEY, batch)
