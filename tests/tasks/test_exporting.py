"""What an exported run says of its images: from the data of each kind of run."""

from __future__ import annotations

from vitjax import config as configs
from vitjax.tasks.exporting import example_shape, preprocessing_of
from vitjax.training import experiment


def built(name, **overrides):
    config = configs.load(name)
    configs.override(config, [f"--config.{key}={value}" for key, value in overrides.items()])
    return experiment.build(config)


def test_that_of_classes():
    run = built("digits/vit")
    found = preprocessing_of(run).as_json()
    assert found["class_names"] == [str(digit) for digit in range(10)]
    assert (found["height"], found["width"], found["channels"]) == (8, 8, 1)
    assert preprocessing_of(run).shape == run.data.image_shape
    assert (found["mean"], found["std"]) == ([0.3], [0.37])


def test_episodes_have_no_names_for_outputs():
    small = {"data.classes": 40, "data.episodes.rotations": None}
    found = preprocessing_of(built("maml/glyphs", **small)).as_json()
    assert found["class_names"] is None
    assert (found["height"], found["channels"]) == (28, 1)


def test_masks_of_any_size():
    run = built("segmentation/cells")
    images = preprocessing_of(run)
    assert images.any_size
    assert example_shape(run, images) == run.data.example_batch()["image"].shape[1:]
    found = images.as_json()
    assert len(found["class_names"]) == 2
    assert found["channels"] == 1
    assert found["steps"][0]["sixteen_bits"] == "divide by 65535"


def test_numbers_have_none():
    run = built("maml/sinusoid")
    assert preprocessing_of(run) is None
    assert example_shape(run, None) == (1,)


def test_the_size_of_evaluation_is_exported():
    run = built("digits/resnet", **{"data.train_transforms": "crop(6)"})
    assert run.data.example_batch()["image"].shape == (1, 6, 6, 1)
    assert example_shape(run, preprocessing_of(run)) == (8, 8, 1)
