"""Prototypical networks: distances to class means, under the statistics that each mode names."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_episodes import close, episode, episodes, identity, mlp, variables

from vitjax.core.errors import ConfigError
from vitjax.meta import ProtoNet
from vitjax.meta.prototypical import similarity
from vitjax.training import experiment

KEY = jax.random.key(0)


def protonet(norm="none", ways=3, **arguments):
    return ProtoNet(model=mlp(None, norm), num_classes=ways, normalize=identity, **arguments)


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_loss_is_the_cross_entropy_of_distances_to_class_means(distance):
    objective = protonet(distance=distance, temperature=0.5)
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    loss, (_, metrics) = jax.jit(objective.loss)(params, state, batch, KEY)

    one = episode(batch)
    support, query = (
        np.asarray(objective.model.apply({"params": params["model"]}, one[part]["input"]))
        for part in ("support", "query")
    )
    labels = np.asarray(one["support"]["target"])
    centers = np.stack([support[labels == way].mean(axis=0) for way in range(3)])
    if distance == "euclidean":
        logits = -((query[:, None] - centers) ** 2).sum(axis=-1)
    else:
        query, centers = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, centers))
        logits = query @ centers.T
    logs = log_softmax(logits / 0.5)
    truth = np.asarray(one["query"]["target"])
    np.testing.assert_allclose(loss, -logs[np.arange(len(truth)), truth].mean(), rtol=1e-4)
    accuracy = np.mean(logs.argmax(axis=-1) == truth)
    np.testing.assert_allclose(metrics["accuracy"].value(), accuracy, rtol=1e-6)


def test_training_normalises_support_and_queries_together_or_apart():
    batch = episodes(number=1)
    together, apart = protonet("batch"), protonet("batch", joint=False)
    params, state = variables(together, batch)
    one = episode(batch)
    both = jnp.concatenate([one["support"]["input"], one["query"]["input"]])
    apply = partial(
        together.model.apply,
        {"params": params["model"], **state},
        train=True,
        mutable=["batch_stats"],
    )
    for objective, support in (
        (together, apply(both)[0][:12]),
        (apart, apply(one["support"]["input"])[0]),
    ):
        features, _, _ = objective.embed(objective.network, params["model"], state, one)
        np.testing.assert_allclose(features, support, rtol=1e-5, atol=1e-6)
    _, (new, _) = jax.jit(together.loss)(params, state, batch, KEY)
    close(new, apply(both)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("statistics", ["running", "support"])
def test_inductive_answers_do_not_depend_on_the_other_queries(statistics):
    objective = protonet("batch", inductive_statistics=statistics)
    batch = episodes(number=1)
    params, state = variables(objective, batch)
    answer = jax.jit(objective.answer)
    before = answer({"params": params, **state}, batch)
    others = jax.tree.map(np.copy, batch)
    others["query"]["input"][:, 1:] += 3
    after = answer({"params": params, **state}, others)
    np.testing.assert_array_equal(before["inductive"][0, 0, 0], after["inductive"][0, 0, 0])
    assert not np.allclose(before["transductive"][0, 0, 0], after["transductive"][0, 0, 0])


def test_the_statistics_of_the_support_set_are_its_own():
    objective = protonet("batch", inductive_statistics="support")
    batch = episodes(number=1, queries=4)
    batch["query"] = jax.tree.map(np.copy, batch["support"])
    params, state = variables(objective, batch)
    answers = jax.jit(objective.answer)({"params": params, **state}, batch)
    np.testing.assert_allclose(answers["inductive"], answers["transductive"], rtol=1e-3, atol=1e-3)


def test_absent_classes_and_masked_shots_count_nothing():
    objective = protonet(ways=5)
    batch = episodes(number=2, ways=3)
    params, state = variables(objective, batch)
    small = jax.jit(protonet().loss)(params, state, batch, KEY)[0]
    gradient = jax.grad(lambda p, b: objective.loss(p, state, b, KEY)[0])
    np.testing.assert_allclose(
        jax.jit(objective.loss)(params, state, batch, KEY)[0], small, rtol=1e-5
    )

    spoilt = jax.tree.map(np.copy, batch)
    spoilt["support"]["input"][:, 1] = 1e3
    spoilt["support"]["mask"][:, 1] = False
    cut = jax.tree.map(np.copy, batch)
    cut["support"] = jax.tree.map(lambda x: np.delete(x, 1, axis=1), cut["support"])
    close(jax.jit(gradient)(params, spoilt), jax.jit(gradient)(params, cut), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_an_episode_of_nothing_but_padding_gives_no_nan(distance):
    objective = protonet("batch", distance=distance)
    batch = episodes(number=2)
    for part in ("support", "query"):
        batch[part]["mask"][1] = False
    batch["mask"][1] = False
    params, state = variables(objective, batch)
    params["model"]["dense1"]["kernel"] *= 0
    gradients, (new, metrics) = jax.jit(objective.gradients)(params, state, batch, KEY)
    evaluated = jax.jit(objective.evaluate)({"params": params, **state}, batch)
    for leaf in jax.tree.leaves((gradients, new, metrics, evaluated)):
        assert np.all(np.isfinite(leaf))


def test_there_is_one_measure_and_no_before():
    objective = protonet()
    batch = episodes()
    params, state = variables(objective, batch)
    measured = jax.jit(objective.measure)({"params": params, **state}, batch)
    assert measured["inductive"]["accuracy"].shape == (2, 1)
    metrics = jax.jit(objective.evaluate)({"params": params, **state}, batch)
    assert set(metrics) == {"loss", "loss_inductive", "accuracy", "accuracy_inductive"}


def test_similarities():
    features = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    centers = jnp.asarray([[0.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(similarity(features, centers, "euclidean")[0], [-9, 0, -25])
    cosines = similarity(features, centers, "cosine")
    np.testing.assert_allclose(cosines, [[0.8, 1, 0], [0, 0, 0]], rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(similarity(x, centers, "cosine")))(features)
    assert np.all(np.isfinite(slope))


def test_invalid_values_are_errors():
    with pytest.raises(ConfigError, match=r"distance is 'euclid'; .* did you mean 'euclidean'"):
        protonet(distance="euclid")
    with pytest.raises(ConfigError, match="temperature"):
        protonet(temperature=0.0)
    with pytest.raises(ConfigError, match="regression"):
        protonet(target="number")


def test_the_trainer_makes_a_model_without_a_head_for_the_most_ways():
    built = experiment.build(
        {
            "model": {"name": "conv4_omniglot_pooled", "filters": 4},
            "data": {
                "source": "glyphs",
                "classes": 40,
                "batch_size": 2,
                "episodes": {"train_ways": 8, "ways": 5, "queries": 2},
            },
            "objective": {"name": "protonet"},
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "train": {"steps": 1},
        }
    )
    assert built.objective.num_classes == 8
    shapes = jax.eval_shape(built.initial_variables)
    assert "head" not in shapes["params"]["model"]


def test_a_query_of_a_class_that_is_not_shown_does_not_count():
    objective = protonet()
    batch = episodes(number=1)
    batch["support"]["mask"][0] = batch["support"]["target"][0] != 1
    params, state = variables(objective, batch)
    fewer = jax.tree.map(np.copy, batch)
    fewer["query"]["mask"][0] = fewer["query"]["target"][0] != 1
    found, expected = (jax.jit(objective.gradients)(params, state, b, KEY) for b in (batch, fewer))
    close(found, expected, rtol=1e-5, atol=1e-6)
    assert float(found[1][1]["loss"].value()) < 100
    measured = [jax.jit(objective.measure)({"params": params, **state}, b) for b in (batch, fewer)]
    close(*measured, rtol=1e-5)
