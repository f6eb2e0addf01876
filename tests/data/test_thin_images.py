"""Images whose resized form would not fit into memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import vitjax.data
from vitjax.data import DataError
from vitjax.data.sample import Sample
from vitjax.data.transforms import geometry, parse


def sample(height: int, width: int, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        rng.integers(80, 170, (height, width, 3), dtype=np.uint8),  # nothing is clipped
        mask=rng.integers(-1, 5, (height, width)).astype(np.int32),
        weight=rng.random((height, width), np.float32),
        boxes=np.array([[1, 0, width - 3, height], [width / 4, 0, width / 2, height]], np.float32),
        box_labels=np.arange(2, dtype=np.int32),
    )


@pytest.mark.parametrize("size", [(1, 8000), (8000, 1), (2, 20_000)])
@pytest.mark.parametrize(
    "text",
    ["resize(256) | center_crop(224)", "resize(256) | crop(224) | flip", "resize(256) | crop(300)"],
)
def test_a_thin_image_takes_little_memory(size, text):
    thin = Sample(sample(*size).image)
    tracemalloc.start()
    try:
        found = parse(text)(thin, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    side = int(text.split("crop(")[1][:3])
    assert found.size == (side, side)
    assert peak < 20e6
    # Along the short side, an image of one pixel is constant after resizing.
    if 1 in size and side <= 256:
        assert (np.ptp(found.image, axis=size.index(1)) <= 1).all()


@pytest.mark.parametrize(
    "text",
    [
        "resize(64) | center_crop(50)", "resize(64, 'bilinear') | crop(50)",
        "resize(64) | center_crop(80)", "resize(64) | crop((90, 40))",
        "resize(64, 'nearest') | crop(70)", "resize((64, 90)) | crop((20, 400))",
        "resize((2, 90)) | crop((20, 300))",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(3, 200), (150, 4)])
def test_a_part_has_the_pixels_of_the_complete_image(monkeypatch, text, size):
    pipeline, thin = parse(text), sample(*size)
    whole = pipeline(thin, np.random.default_rng(3))
    monkeypatch.setattr(geometry, "_MANY_PIXELS", 1)
    part = pipeline(thin, np.random.default_rng(3))
    assert np.abs(whole.image.astype(int) - part.image).max() <= 2
    np.testing.assert_array_equal(whole.mask, part.mask)
    np.testing.assert_allclose(whole.weight, part.weight, atol=1e-4)
    np.testing.assert_allclose(whole.boxes, part.boxes, atol=1e-3)
    np.testing.assert_array_equal(whole.box_labels, part.box_labels)


def test_ordinary_images_are_resized_as_before():
    resize = geometry.Resize(256)
    for size in ((375, 500), (3000, 4000), (20, 4000), (8000, 100)):
        assert not resize.enlarges(size)
    assert resize.enlarges((1, 8000))


def test_what_cannot_be_cut_is_refused_by_name(tmp_path, write_image):
    for split in ("train", "val"):
        write_image(tmp_path / split / "a" / "0.png", size=(30, 30))
        write_image(tmp_path / split / "b" / "0.png", size=(30, 30))
    write_image(tmp_path / "train" / "b" / "thin.png", size=(1, 8000))
    data = vitjax.data.create(
        source="folder",
        path=str(tmp_path),
        batch_size=3,
        train_transforms="resize(256) | flip | crop(224)",
        eval_transforms="resize(256) | center_crop(224)",
    )
    assert data.read_image(tmp_path / "train" / "b" / "thin.png").shape == (224, 224, 3)
    with (
        pytest.raises(
            DataError, match=r"thin.png: resize\(256\) would make 256x2048000 .*of 1x8000"
        ),
        data.train_batches() as batches,
    ):
        next(batches)


def test_the_limit_of_pixels_is_a_key_for_training_and_prediction(tmp_path, write_image):
    for label in "ab":
        for number in range(2):
            write_image(tmp_path / label / f"{number}.png", size=(10, 12))
    section = {"source": "folder", "path": str(tmp_path), "batch_size": 2, "val_fraction": 0}
    data = vitjax.data.create(**section, max_pixels=120)
    large = write_image(tmp_path / "large.png", size=(11, 12))
    with pytest.raises(DataError, match=r"large.png: .*11x12 = 132 pixels.*at most 120"):
        data.read_image(large)
    recalled = vitjax.data.recall(data.describe(), **section, max_pixels=120)
    with pytest.raises(DataError, match=r"large.png: .*11x12 = 132 pixels.*at most 120"):
        recalled.read_image(large)
    with pytest.raises(
        DataError, match=r"\.png: .*10x12 = 120 pixels.*at most 119.*config.data.max_pixels"
    ):
        vitjax.data.create(**section, max_pixels=119)
    skipping = vitjax.data.create(**section, max_pixels=120, on_corrupt="skip")
    assert skipping.num_examples("train") == 4
