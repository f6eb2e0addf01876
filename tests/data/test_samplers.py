"""Samplers: frequencies, exactness over hosts, resumption, and errors."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data.samplers import SAMPLERS, Training
from vitjax.data.sources import ArraySplit, Source

SIZES = (1, 3, 16, 60)
NAMES = ("one", "three", "sixteen", "sixty")
SECTIONS = {
    "shuffled": {},
    "weighted": {"class_weights": {"one": 4.0, "sixty": 0}},
    "class_balanced": {"power": 0.5},
    "p_by_k": {"images_per_class": 4},
}


def numbered(sizes=SIZES) -> ArraySplit:
    """Images that carry their own number."""
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    labels = np.random.default_rng(0).permutation(labels)
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1)
    return ArraySplit(images, labels, "numbered")


def data(sampler=None, batch_size=12, **keywords) -> vitjax.data.Data:
    source = Source({"train": numbered(), "val": numbered()}, NAMES)
    return vitjax.data.Data(source, batch_size=batch_size, sampler=sampler, **keywords)


def sampler(name: str, split=None, batch_size=12, seed=0, target="class"):
    training = Training(split or numbered(), target, NAMES, batch_size, seed)
    return SAMPLERS.create(name, training=training, **SECTIONS[name])


def take(made, count: int, **keywords) -> list[np.ndarray]:
    with made.train_batches(**keywords) as batches:
        return [batch["image"].ravel() for batch in itertools.islice(batches, count)]


def test_every_sampler_is_tested():
    assert set(SAMPLERS) == set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_resuming_and_hosts_change_nothing(name):
    section = {"name": name, **SECTIONS[name]}
    complete = take(data(section), 12)
    np.testing.assert_array_equal(take(data(section), 5, start=7), complete[7:])
    parts = [take(data(section), 4, start=3, process_index=i, process_count=3) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), complete[3:7])
    assert any(
        (a != b).any() for a, b in zip(complete, take(data(section, seed=1), 12), strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 500), count=st.integers(0, 60), name=st.sampled_from(sorted(SECTIONS)))
def test_any_stretch_is_part_of_one_sequence(start, count, name):
    made = pickle.loads(pickle.dumps(sampler(name)))
    found = made.indices(range(start, start + count))
    assert found.shape == (count,)
    np.testing.assert_array_equal(found, made.indices(range(560))[start : start + count])


def test_the_default_is_shuffled():
    np.testing.assert_array_equal(take(data(), 9), take(data({"name": "shuffled"}), 9))


def frequencies(name: str, positions: int = 40_000, **keywords) -> np.ndarray:
    split = numbered()
    training = Training(split, "class", NAMES, 12, 0)
    made = SAMPLERS.create(name, training=training, **keywords)
    found = made.indices(range(positions))
    per_example = np.bincount(found, minlength=len(split)) / positions
    for kind in range(len(SIZES)):  # the examples of a class are drawn equally often
        chances = per_example[split.labels == kind]
        mean = chances.mean()
        assert np.abs(chances - mean).max() < 5 * np.sqrt(mean / positions) + 1e-12
    return np.bincount(split.labels[found], minlength=len(SIZES)) / positions


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_balanced_frequencies(power):
    expected = np.power(SIZES, power) / np.power(SIZES, power).sum()
    found = frequencies("class_balanced", power=power)
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / 40_000))


def test_weighted_frequencies():
    weights = np.array([4.0, 1, 0.5, 0]) * SIZES
    found = frequencies("weighted", class_weights={"one": 4.0, "sixteen": 0.5, "sixty": 0})
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.01)
    assert found[3] == 0


def test_p_by_k_batches():
    split = numbered()
    made = sampler("p_by_k", split)
    classes = []
    for batch in range(400):
        rows = made.indices(range(12 * batch, 12 * batch + 12)).reshape(3, 4)
        labels = split.labels[rows]
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0].tolist())) == 3
        for kind, images in zip(labels[:, 0].tolist(), rows, strict=True):
            assert len(set(images.tolist())) == min(4, SIZES[kind])
        classes += labels[:, 0].tolist()
    np.testing.assert_allclose(np.bincount(classes) / 1200, 0.25, atol=0.05)
    seen = made.indices(range(12 * 400))
    assert set(seen.tolist()) == set(range(len(split)))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "shufled"}, r"config.data.sampler.name: .*'shufled'; did you mean 'shuffled'"),
        ({"power": 1}, r"config.data.sampler: the key 'name' is missing"),
        (
            {"name": "class_balanced", "pwer": 1},
            r"sampler: unknown key 'pwer'; did you mean 'power'",
        ),
        ({"name": "class_balanced", "power": 2}, r"config.data.sampler.power is 2; it must be"),
        ({"name": "weighted"}, r"'class_weights' is missing"),
        ({"name": "weighted", "class_weights": {"sixte": 1}}, r"'sixte'.*did you mean 'sixteen'"),
        ({"name": "weighted", "class_weights": dict.fromkeys(NAMES, 0)}, r"all examples.*weight 0"),
        ({"name": "weighted", "class_weights": {"one": -1}}, r"class_weights.one is -1"),
        ({"name": "p_by_k", "images_per_class": 5}, r"images_per_class is 5; .*batch_size, 12"),
        ({"name": "p_by_k", "images_per_class": 2}, r"makes 6 classes in a batch of 12; .* has 4"),
        ("weighted", r"config.data.sampler is 'weighted'; it must be a section"),
    ],
)
def test_errors_name_the_key(section, message):
    with pytest.raises(ConfigError, match=message):
        data(section)


def test_samplers_by_class_need_one_class_per_image():
    section = {"source": "cells", "size": 32, "train": 4, "val": 2, "test": 0, "batch_size": 2}
    with pytest.raises(ConfigError, match=r"'class_balanced', which needs one class per image"):
        vitjax.data.create(**section, sampler={"name": "class_balanced"})


def test_a_run_with_a_sampler_is_recalled():
    section = {"source": "digits", "batch_size": 20}
    section["sampler"] = {"name": "p_by_k", "images_per_class": 2}
    made = vitjax.data.create(**section)
    again = vitjax.data.recall(made.describe(), **section)
    assert again.example_batch()["image"].shape == (1, 8, 8, 1)
