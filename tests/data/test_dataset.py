"""Every kind of data keeps the interface of `Dataset`."""

import jax
import numpy as np
import pytest

import vitjax.data
from vitjax.data import Dataset

KINDS = {
    "class": {"source": "digits", "batch_size": 8},
    "mask": {"source": "cells", "size": 32, "train": 4, "val": 2, "test": 0, "batch_size": 2},
    "episodes": {
        "source": "glyphs", "classes": 20, "drawings": 5, "image_size": 8, "batch_size": 2,
        "episodes": {"ways": 2, "queries": 1, "val_episodes": 3},
    },
    "functions": {
        "source": "sinusoid", "batch_size": 2, "episodes": {"queries": 1, "val_episodes": 3},
    },
}  # fmt: skip
FACTS = {
    "class": ("class", False, 10),
    "mask": ("mask", False, 2),
    "episodes": ("class", True, 13),
    "functions": ("number", True, 1),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def data(kind):
    return vitjax.data.create(**KINDS[kind])


def shapes(batch):
    return jax.tree.map(lambda x: (x.shape[1:], x.dtype), batch)


def test_facts_are_declared(kind, data):
    assert isinstance(data, Dataset)
    assert (data.target, data.episodic, data.num_train_classes) == FACTS[kind]
    assert (data.steps_per_epoch is None) == data.episodic
    assert data.skipped == {}
    assert data.num_examples("val") > 0


@pytest.mark.parametrize("evaluated", [False, True])
def test_the_example_batch_has_the_shapes_of_a_batch(data, evaluated):
    with data.eval_batches("val") if evaluated else data.train_batches() as batches:
        batch = data.look_up(data.store, next(batches))
    example = data.example_batch(evaluated)
    example = {key: example[key] for key in batch if key in example}
    assert shapes(example) == shapes({key: batch[key] for key in example})
    assert {"mask"} < set(example)


def test_inputs_are_normalised_to_float32(data):
    batch = data.example_batch()
    inputs = batch["support"]["input"] if data.episodic else batch["image"]
    assert data.normalize(inputs).dtype == np.float32


def test_the_description_is_enough_to_recall_the_shapes(kind, data):
    recalled = vitjax.data.recall(data.describe(), **KINDS[kind])
    assert shapes(recalled.example_batch(True)) == shapes(data.example_batch(True))
    assert recalled.class_names == data.class_names
    assert recalled.num_examples("val") == data.num_examples("val")
