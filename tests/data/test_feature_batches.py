import numpy as np
import pytest

from vitjax import data as datasets
from vitjax.data import DataError
from vitjax.data.features import FeatureData

EXAMPLES, HELD_OUT, WIDTH = 30, 7, 3


@pytest.fixture
def pair():
    """Data of images, and of features that tell which example they are of."""
    images = datasets.create(
        seed=3,
        source="synthetic",
        image_size=4,
        num_classes=5,
        examples=EXAMPLES,
        val_examples=HELD_OUT,
        batch_size=8,
        eval_batch_size=4,
    )
    features = {}
    for split, count in (("train", EXAMPLES), ("val", HELD_OUT)):
        array = np.arange(count)[:, None] + np.linspace(0, 0.5, WIDTH)
        features[split] = array.astype(np.float32), np.arange(count) != 5
    return images, FeatureData(images, features)


def which(images, split, batch):
    """The numbers of the examples in a batch of images."""
    known = [images.example(split, index) for index in range(images.num_examples(split))]
    return [
        next(i for i, image in enumerate(known) if np.array_equal(image, one))
        for one in batch["image"]
    ]


@pytest.mark.parametrize(("start", "host", "hosts"), [(0, 0, 1), (5, 1, 2)])
def test_training_batches_have_the_examples_that_those_of_images_have(pair, start, host, hosts):
    images, features = pair
    with (
        images.train_batches(start, host, hosts) as ours,
        features.train_batches(start, host, hosts) as theirs,
    ):
        for _ in range(6):
            one, other = next(ours), next(theirs)
            numbers = which(images, "train", one)
            np.testing.assert_array_equal(np.floor(other["features"][:, 0]), numbers)
            np.testing.assert_array_equal(other["label"], one["label"])
            np.testing.assert_array_equal(other["mask"], np.asarray(numbers) != 5)
            assert set(other) == {"features", "label", "mask"}
            assert other["features"].dtype == np.float32


def test_evaluation_gives_every_example_once_and_in_order(pair):
    _, features = pair
    batches = list(features.eval_batches("val"))
    assert [len(batch["features"]) for batch in batches] == [4, 4]
    rows = np.concatenate([batch["features"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(np.floor(rows[:, 0]), [0, 1, 2, 3, 4, 6])
    np.testing.assert_array_equal(batches[1]["features"][3], np.zeros(WIDTH))
    with pytest.raises(DataError, match="no split 'vall'; did you mean 'val'"):
        features.eval_batches("vall")


def test_all_else_is_that_of_the_images(pair):
    images, features = pair
    assert features.steps_per_epoch == images.steps_per_epoch
    assert features.describe() == images.describe()
    np.testing.assert_array_equal(features.example("val", 2), images.example("val", 2))
    blank = features.example_batch()
    assert blank["image"].shape == (1, 4, 4, 3)
    assert blank["features"].shape == (1, WIDTH)
    # What is taken from features is not taken from the images' data.
    with images.train_batches() as batches:
        assert "image" in next(batches)


@pytest.mark.parametrize(
    ("train", "held_out", "augments"),
    [
        ("", "", False),
        ("resize(6)", "resize(6)", False),
        ("resize(6)", "resize(5)", True),
        ("flip", "", True),
        ("flip", "flip", True),
    ],
)
def test_whether_training_sees_other_images_than_evaluation(train, held_out, augments):
    data = datasets.create(
        source="digits", batch_size=8, train_transforms=train, eval_transforms=held_out
    )
    assert data.augments is augments
