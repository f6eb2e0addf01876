"""Images that are damaged, missing, or of the wrong size."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

import vitjax.data
from vitjax.data import CorruptImage, DataError


@pytest.fixture
def damaged_folder(image_folder, write_image):
    """`image_folder` with one truncated JPEG, one empty file, one that is not an image."""
    jpeg = write_image(image_folder / "cat" / "cut.jpg")
    jpeg.write_bytes(jpeg.read_bytes()[:-30])
    (image_folder / "dog" / "empty.png").write_bytes(b"")
    (image_folder / "dog" / "text.png").write_bytes(b"no image at all")
    return image_folder


BAD = {"cut.jpg", "empty.png", "text.png"}


def create(folder, **keywords) -> vitjax.data.Data:
    settings = {"val_fraction": 0, "test_fraction": 0, "batch_size": 5, **keywords}
    return vitjax.data.create(source="folder", path=str(folder), **settings)


def test_the_error_names_the_file(damaged_folder):
    with pytest.raises(DataError, match=r"cat/cut.jpg: cannot be decoded: .*on_corrupt"):
        list(create(damaged_folder).eval_batches("train"))


def test_the_error_of_a_worker_process_is_the_same_one(damaged_folder):
    (damaged_folder / "cat" / "cut.jpg").unlink()
    batches = create(damaged_folder, workers=1).train_batches()
    with pytest.raises(DataError, match=r"dog/(text|empty).png: cannot be decoded") as caught:
        list(itertools.islice(batches, 3))
    assert "\n" not in str(caught.value)
    assert list(batches) == []  # closed


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_masks_and_counts_each_file_once(damaged_folder, workers, caplog):
    data = create(damaged_folder, workers=workers, on_corrupt="skip", train_transforms="flip")
    with caplog.at_level(logging.WARNING), data.train_batches() as batches:
        taken = list(itertools.islice(batches, 9))  # 45 examples: three epochs of 15
    assert {name.rsplit("/", 1)[-1] for name in data.skipped} == BAD
    assert sum(not m for b in taken for m in b["mask"]) == 3 * len(BAD)
    assert all(not b["image"][~b["mask"]].any() for b in taken)
    assert sum("skipped a corrupt image" in line for line in caplog.messages) == len(BAD)
    if not workers:
        seen = np.concatenate([b["image"][b["mask"]][:, 0, 0, 0] for b in taken])
        np.testing.assert_array_equal(
            np.sort(seen), np.repeat([*range(10, 16), *range(100, 106)], 3)
        )


def test_skipping_in_evaluation(damaged_folder):
    data = create(damaged_folder, on_corrupt="skip")
    assert sum(b["mask"].sum() for b in data.eval_batches("train")) == 12


def test_a_folder_with_nothing_but_corrupt_images_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="all corrupt"):
        create(tmp_path, on_corrupt="skip")


def test_a_file_that_vanished_is_corrupt(image_folder):
    data = create(image_folder)
    (image_folder / "dog" / "3.png").unlink()
    with pytest.raises(CorruptImage, match=r"dog/3.png: cannot be read: No such file"):
        data.source.split("train").read(9)


def test_images_of_several_sizes_want_a_resize(image_folder, write_image):
    write_image(image_folder / "dog" / "wide.png", size=(12, 20))
    with pytest.raises(DataError, match=r"wide.png: .*\(12, 20, 3\).*resize\(\(12, 10\)\)"):
        list(create(image_folder).eval_batches("train"))
    data = create(image_folder, eval_transforms="resize(8) | center_crop(8)")
    assert sum(b["mask"].sum() for b in data.eval_batches("train")) == 13
