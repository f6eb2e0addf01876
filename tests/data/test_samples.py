"""Sources of one's own: numbers to predict, boxes, second images, and samples that lack a field."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

import vitjax.data
from vitjax.core.errors import ConfigError
from vitjax.data import KINDS, DataError, Sample, transforms
from vitjax.data.sources import ArraySplit, Source, register
from vitjax.training import checks


@pytest.fixture
def registered(forgotten_after_the_test):
    """Registers sources for one test."""
    return register


def take(data, count: int, **keywords) -> list[dict[str, np.ndarray]]:
    with data.train_batches(**keywords) as batches:
        return list(itertools.islice(batches, count))


def shapes(batch):
    return {key: (array.shape[1:], array.dtype) for key, array in batch.items()}


@pytest.mark.parametrize("width", [None, 2])
def test_numbers_to_predict(registered, width):
    names = ("angle",) if width is None else ("angle", "length")

    @registered("angles", target="number")
    def angles(examples: int = 10) -> Source:
        shape = (examples,) if width is None else (examples, width)
        labels = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        images = np.full((examples, 6, 6, 1), 7, np.uint8)
        split = ArraySplit(images, labels, "angles")
        return Source({"train": split, "val": split}, names)

    section = {"source": "angles", "batch_size": 4, "train_transforms": "flip"}
    data = vitjax.data.create(**section)
    assert (data.target, data.num_classes, data.class_names) == ("number", len(names), names)
    (batch,) = take(data, 1)
    assert batch["label"].dtype == np.float32
    assert batch["label"].shape == ((4,) if width is None else (4, 2))
    evaluated = np.concatenate([b["label"][b["mask"]] for b in data.eval_batches("val")])
    np.testing.assert_array_equal(evaluated, data.labels("val"))
    assert shapes(data.example_batch()) == shapes(batch)
    again = vitjax.data.recall(json.loads(json.dumps(data.describe())), **section)
    assert shapes(again.example_batch()) == shapes(batch)


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Images of two sizes, with as many white objects as their number says."""

    count: int = 5

    def __len__(self):
        return self.count

    def name(self, index):
        return f"boxes[{index}]"

    def read(self, index):
        image = np.zeros((20 + 4 * (index % 2), 30, 1), np.uint8)
        boxes = [(3 + 5 * n, 4 + n, 7 + 5 * n, 12 + n) for n in range(index)]
        for x1, y1, x2, y2 in boxes:
            image[y1:y2, x1:x2] = 255
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        return Sample(image, boxes=boxes, box_labels=np.arange(index, dtype=np.int32))


@pytest.fixture
def detection(registered):
    @registered("toy_boxes", target="boxes")
    def toy_boxes(count: int = 5) -> Source:
        split = Boxes(count)
        return Source({"train": split, "val": split}, tuple("abcde"))

    return {"source": "toy_boxes", "batch_size": 5, "max_boxes": 6}


def test_boxes_are_padded_with_a_mask(detection):
    data = vitjax.data.create(
        **detection,
        train_transforms="flip(1) | resize((16, 24))",
        eval_transforms="resize((16, 24))",
    )
    assert (data.target, data.num_classes) == ("boxes", 5)
    (batch,) = take(data, 1)
    assert shapes(batch) == {
        "image": ((16, 24, 1), np.uint8),
        "boxes": ((6, 4), np.float32),
        "box_labels": ((6,), np.int32),
        "box_mask": ((6,), bool),
        "mask": ((), bool),
    }
    assert shapes(data.example_batch()) == shapes(batch)
    counts = batch["box_mask"].sum(axis=1)
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert not batch["boxes"][~batch["box_mask"]].any()
    for image, boxes, count in zip(batch["image"], batch["boxes"], counts, strict=True):
        for x1, y1, x2, y2 in boxes[:count]:
            inside = image[round(y1) : round(y2), round(x1) : round(x2)]
            assert inside.mean() > 160
    evaluated = next(data.eval_batches("val"))
    assert evaluated["box_mask"].sum(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert evaluated["box_labels"][4].tolist() == [0, 1, 2, 3, 0, 0]
    again = vitjax.data.recall(json.loads(json.dumps(data.describe())), **detection)
    assert shapes(again.example_batch(True))["boxes"] == ((6, 4), np.float32)


def test_too_many_boxes_are_an_error(detection):
    section = {**detection, "max_boxes": 3, "train_transforms": "resize((8, 8))"}
    data = vitjax.data.create(**section, eval_transforms="resize((8, 8))")
    with pytest.raises(DataError, match=r"boxes\[4\]: has 4 boxes, and config.data.max_boxes is 3"):
        take(data, 1)


def test_a_second_image_is_moved_and_batched(registered):
    class Stereo(ArraySplit):
        def read(self, index):
            sample = super().read(index)
            return sample.replace(second_image=255 - sample.image)

    @registered("stereo")
    def stereo() -> Source:
        images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
        split = Stereo(images, np.zeros(6, np.int32), "stereo")
        return Source({"train": split}, ("only",))

    data = vitjax.data.create(
        source="stereo", batch_size=6, train_transforms="flip | crop(5) | shift(2)"
    )
    (batch,) = take(data, 1)
    np.testing.assert_array_equal(batch["second_image"], 255 - batch["image"])
    section = {"source": "stereo", "batch_size": 6}
    again = vitjax.data.recall(json.loads(json.dumps(data.describe())), **section)
    assert shapes(again.example_batch())["second_image"] == ((8, 8, 1), np.uint8)


class Broken:
    labels = np.zeros(2, np.int32)

    def __init__(self, made):
        self.made = made

    def __len__(self):
        return 2

    def name(self, index):
        return f"broken[{index}]"

    def read(self, index):
        return self.made


IMAGE = np.zeros((4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("target", "made", "message"),
    [
        ("class", (IMAGE, 0), r"broken\[0\]: read returned a tuple; .*Sample\(image, label\)"),
        ("class", Sample(IMAGE), r"the sample has no label, .*target='class'"),
        ("mask", Sample(IMAGE, 0), r"the sample has no mask, .*target='mask'"),
        ("boxes", Sample(IMAGE, 0), r"the sample has no boxes, .*target='boxes'"),
        (
            "mask",
            Sample(IMAGE, mask=np.zeros((4, 4))),
            r"mask is float64 .*must be int32 .*\(4, 4\)",
        ),
        (
            "mask",
            Sample(IMAGE, mask=np.zeros((5, 4), np.int32)),
            r"mask is int32 of shape \(5, 4\)",
        ),
        ("boxes", Sample(IMAGE, boxes=np.zeros(4, np.float32)), r"boxes is .*shape \(4, 4\)"),
        (
            "boxes",
            Sample(IMAGE, boxes=np.zeros((1, 4), np.float32), box_labels=np.zeros(2, np.int32)),
            r"box_labels is int32 of shape \(2,\); it must be int32 of shape \(1,\)",
        ),
        ("class", Sample(IMAGE[..., 0], 0), r"uint8 of shape \(4, 4\); images must be"),
        ("class", Sample(IMAGE.astype(int), 0), r"int64 of shape .*must be uint8 or float32"),
    ],
)
def test_samples_that_cannot_be_used(registered, target, made, message):
    @registered("broken", target=target)
    def broken() -> Source:
        return Source({"train": Broken(made)}, ("a", "b"))

    with pytest.raises(DataError, match=message):
        vitjax.data.create(source="broken", batch_size=1)


def test_an_unknown_target_is_an_error(registered):
    registered("odd", target="sound")(lambda: Source({"train": Broken(Sample(IMAGE))}, ("a",)))
    with pytest.raises(ConfigError, match="'odd' is registered with target='sound'"):
        vitjax.data.create(source="odd", batch_size=1)


class Dots(Boxes):
    """Images alone."""

    def read(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        return Sample(rng.integers(0, 256, (12, 12, 1), np.uint8))


def test_two_views_of_images_without_labels(registered):
    @registered("dots", target="none")
    def dots(count: int = 5) -> Source:
        return Source({"train": Dots(count), "val": Dots(count)}, ())

    data = vitjax.data.create(
        source="dots",
        batch_size=5,
        train_transforms="two_views('crop(8) | flip')",
        eval_transforms="center_crop(8)",
    )
    assert (data.target, data.num_classes, data.augments) == ("none", 0, True)
    (batch,) = take(data, 1)
    views = {"image": ((8, 8, 1), np.uint8), "second_image": ((8, 8, 1), np.uint8)}
    assert shapes(batch) == {**views, "mask": ((), bool)}
    assert shapes(data.example_batch()) == shapes(batch)
    differ = (batch["image"] != batch["second_image"]).any((1, 2, 3))
    assert differ.any()
    (again,) = take(data, 1)
    np.testing.assert_array_equal(again["second_image"], batch["second_image"])
    with data.eval_batches("val") as batches:
        assert set(next(batches)) == {"image", "mask"}
    recalled = vitjax.data.recall(data.describe(), source="dots", batch_size=5)
    assert recalled.image_shape == (12, 12, 1)


def test_views_of_different_sizes_are_an_error():
    views = transforms.parse("two_views('center_crop(8)', 'center_crop(6)')")
    with pytest.raises(DataError, match=r"shape \(8, 8, 1\), the second of \(6, 6, 1\)"):
        views(Sample(np.zeros((12, 12, 1), np.uint8)), np.random.default_rng(0))


def test_a_kind_of_data_of_one_s_own(registered):
    class Captions(vitjax.data.UnlabelledData):
        target = "text"

    KINDS.register("text", label="a caption per image")(Captions)
    registered("captions", target="text")(lambda: Source({"train": Dots(3)}, ()))
    assert isinstance(vitjax.data.create(source="captions", batch_size=1), Captions)
    with pytest.raises(
        ConfigError, match="one class per image, and the source 'captions' has a cap"
    ):
        checks.fits("classification", {"source": "captions"})
