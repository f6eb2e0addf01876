"""Sinusoids: tasks of regression."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitjax.data
from vitjax.core.errors import ConfigError


def sinusoids(episodes: dict[str, Any] | None = None, **keywords) -> Any:
    return vitjax.data.create(
        **{"source": "sinusoid", "batch_size": 25, **keywords},
        episodes={"shots": 10, "queries": 5, **(episodes or {})},
    )


def take(data, count: int, **keywords) -> list[dict[str, Any]]:
    with data.train_batches(**keywords) as batches:
        return list(itertools.islice(batches, count))


def same(left, right) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def joined(parts):
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def test_every_task_is_one_sine_wave():
    batch = joined(take(sinusoids(), 80))
    amplitude, phase = batch["amplitude"], batch["phase"]
    for name, places in (("support", 10), ("query", 5)):
        part = batch[name]
        assert part["input"].shape == part["target"].shape == (2000, places, 1)
        assert part["input"].dtype == part["target"].dtype == np.float32
        assert part["mask"].all()
        assert not part["class"].any()
        assert np.abs(part["input"]).max() <= 5
        truth = amplitude[:, None, None] * np.sin(part["input"] - phase[:, None, None])
        np.testing.assert_allclose(part["target"], truth, atol=1e-5)
    # Uniform: the means lie within four standard errors of the middle.
    for values, low, high in (
        (amplitude, 0.1, 5),
        (phase, 0, np.pi),
        (batch["query"]["input"], -5, 5),
    ):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        error = (high - low) / np.sqrt(12 * values.size)
        assert abs(values.mean() - (low + high) / 2) < 4 * error
    assert len(np.unique(batch["support"]["input"])) > 19_000


def test_the_keywords_are_the_ranges():
    batch = take(sinusoids(amplitude=(2, 2), phase=(1, 1.5), inputs=(0, 1)), 1)[0]
    assert (batch["amplitude"] == 2).all()
    assert batch["phase"].min() >= 1
    assert 0 <= batch["query"]["input"].min() < batch["query"]["input"].max() <= 1


def test_facts_about_the_data():
    data = sinusoids({"train_shots": 7})
    assert (data.target, data.num_classes, data.image_shape) == ("number", 1, (1,))
    assert data.episodic
    assert data.splits == ("train", "val", "test")
    assert data.store is None
    assert data.protocol("val") == {"shots": 10, "queries": 5, "episodes": 100}
    assert data.protocol("train")["shots"] == 7
    for evaluated, batch in (
        (False, take(data, 1)[0]),
        (True, next(data.eval_batches("test"))),
    ):
        kinds = [
            jax.tree.map(lambda a: (a.shape[1:], a.dtype), made)
            for made in (data.example_batch(evaluated), batch)
        ]
        assert kinds[0] == kinds[1]
        same(jax.tree.map(np.asarray, data.look_up(None, batch)), batch)
    assert data.normalize(np.ones(3)).dtype == np.float32
    section = {"source": "sinusoid", "batch_size": 25, "episodes": {"shots": 10, "queries": 5}}
    same(take(vitjax.data.recall(data.describe(), **section), 1), take(sinusoids(), 1))


@settings(max_examples=20)
@given(start=st.integers(0, 9), hosts=st.sampled_from([1, 5]), seed=st.integers(0, 3))
def test_the_same_tasks_after_a_stop_and_on_any_number_of_hosts(start, hosts, seed):
    whole = take(sinusoids(seed=seed), 10)
    shares = [
        take(sinusoids(seed=seed), 10 - start, start=start, process_index=i, process_count=hosts)
        for i in range(hosts)
    ]
    same([joined(parts) for parts in zip(*shares, strict=True)], whole[start:])


@settings(max_examples=20)
@given(size=st.integers(1, 30), seed=st.integers(0, 3))
def test_evaluation_is_fixed_by_its_own_seed_alone(size, seed):
    episodes = {"test_episodes": 20}
    reference = joined(list(sinusoids(episodes, eval_batch_size=20).eval_batches("test")))
    data = sinusoids(episodes, eval_batch_size=size, seed=seed)
    made = joined(list(data.eval_batches("test")))
    same(jax.tree.map(lambda array: array[made["mask"]], made), reference)
    assert (take(data, 1)[0]["amplitude"][:20] != reference["amplitude"]).all()


def test_shots_of_a_range_repeat_the_points_that_count():
    part = joined(take(sinusoids({"shots": (2, 6)}), 40))["support"]
    counts = part["mask"].sum(1)
    assert np.bincount(counts).tolist()[:2] == [0, 0]
    assert np.bincount(counts)[2:].min() > 150  # of 1000, five sizes
    for points, count in zip(part["input"][..., 0], counts, strict=True):
        np.testing.assert_array_equal(points, points[np.arange(6) % count])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"episodes": {"ways": 5}}, r"unknown key 'ways'"),
        ({"episodes": {"shots": 0}}, r"episodes.shots is 0"),
        ({"episodes": {"queries": 0}}, r"episodes.queries is 0"),
        ({}, r"'episodes' is missing"),
        ({"mean": 0.5, "episodes": {}}, r"unknown key 'mean'"),
        ({"amplitude": 3, "episodes": {}}, r"amplitude is 3; it must be a list"),
        (
            {"amplitude": (3,), "episodes": {}},
            r"amplitude is \(3,\); it must be a list of 2 numbers",
        ),
        ({"phase": (3, 1), "episodes": {}}, r"phase is \(3, 1\)"),
        ({"inputs": ("a", "b"), "episodes": {}}, r"inputs\[0\] is 'a'; it must be a number"),
    ],
)
def test_errors_name_the_key(section, message):
    with pytest.raises(ConfigError, match=message):
        vitjax.data.create(source="sinusoid", batch_size=2, **section)
