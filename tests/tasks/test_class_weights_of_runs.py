"""Class weights of a run: from the counts of its training data, as the config asks."""

from pathlib import Path

import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.training import experiment as experiments

CLASSES = {
    "model": {"name": "vit_ti16", "patch_size": 4, "width": 8, "mlp_width": 8, "depth": 1}
    | {"num_heads": 1},
    "data": {"source": "digits", "batch_size": 8},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "train": {"steps": 1},
}
MASKS = {
    **CLASSES,
    "model": {"name": "unet", "filters": 2, "depth": 1},
    "data": {"source": "cells", "batch_size": 2, "size": 32, "train": 4, "val": 1, "test": 1},
}


def build(config, **objective):
    return experiments.build({**config, "objective": objective})


@pytest.mark.parametrize(("config", "name"), [(CLASSES, "classification"), (MASKS, "segmentation")])
def test_weights_follow_the_training_split_and_are_reported(config, name):
    built = build(config, name=name, class_weights="inverse")
    if name == "classification":
        counts = np.bincount(built.data.labels("train"))
        assert counts.sum() == 1437
    else:
        masks = [built.data.source.split("train").read(i).mask for i in range(4)]
        counts = np.bincount(np.ravel(masks))
    np.testing.assert_array_equal(built.data.class_counts("train"), counts)
    weights = built.objective.weights_of_classes
    np.testing.assert_allclose(weights, counts.sum() / (len(counts) * counts), rtol=1e-6)
    said = []
    assert built.task.prepare({}, Path("unused"), said.append) is built
    assert said[0].startswith("Class weights of the training loss: ")
    assert f"{built.data.class_names[1]} {weights[1]:.4g}" in said[0]


def test_without_class_weights_nothing_is_counted_or_reported():
    built = build(CLASSES, name="classification")
    said = []
    assert built.objective.weights_of_classes is None
    built.task.prepare({}, Path("unused"), said.append)
    assert said == []


def test_a_name_is_checked_against_the_classes_of_the_data():
    # A section without a name is that of classification.
    assert build(CLASSES, class_weights={"7": 2.0}).objective.weights_of_classes[7] == 2
    with pytest.raises(ConfigError, match=r"class_weights: '17' is not a class; did you mean '7'"):
        build(CLASSES, class_weights={"17": 2.0})
    with pytest.raises(ConfigError, match=r"class_weights has 3 weights.*each of the 2 classes"):
        build(MASKS, name="segmentation", class_weights=[1, 2, 3])


def test_a_run_is_evaluated_on_data_of_other_classes():
    config = {**MASKS, "objective": {"name": "segmentation", "class_weights": [1, 2, 3]}}
    assert experiments.build(config, trained=True).objective.class_weights == (1, 2, 3)


def test_the_balanced_sampler_is_for_classes_of_images():
    sampler = {"sampler": {"name": "class_balanced"}}
    built = experiments.build({**CLASSES, "data": CLASSES["data"] | sampler})
    with built.data.train_batches() as batches:
        assert next(batches)["label"].shape == (8,)
    with pytest.raises(ConfigError, match="'class_balanced', which needs one class per image"):
        experiments.build(
            {**MASKS, "data": MASKS["data"] | sampler, "objective": {"name": "segmentation"}}
        )
