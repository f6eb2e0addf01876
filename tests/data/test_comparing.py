"""Sizes of images, and examples that are in two splits, without decoding them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitjax.data.comparing import describe_repeats, describe_sizes, repeats, sizes
from vitjax.data.sources import SOURCES, ArraySplit, Stored


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``train`` and ``test`` of random images, three of which are copies of training images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                image = rng.integers(0, 255, (8 + index, 5, 3), np.uint8)
                Image.fromarray(image).save(tmp_path / split / name / f"{index}.bmp")
    for copy, original in (
        *(("cat/x.bmp", "cat/1.bmp"), ("dog/0.bmp", "cat/0.bmp"), ("dog/y.bmp", "dog/5.bmp")),
    ):
        (tmp_path / "test" / copy).write_bytes((tmp_path / "train" / original).read_bytes())
    return tmp_path


def test_copies_across_splits_are_found(photos):
    splits = SOURCES.create("folder", path=str(photos)).splits
    found = repeats(splits)
    pairs = {
        (os.path.relpath(one, photos), os.path.relpath(other, photos))
        for one, other in found.pairs["train", "test"]
    }
    assert pairs == {
        ("train/cat/1.bmp", "test/cat/x.bmp"),
        ("train/cat/0.bmp", "test/dog/0.bmp"),
        ("train/dog/5.bmp", "test/dog/y.bmp"),
    }
    assert (found.compared, found.total) == (20, 20)
    line = describe_repeats(found, shown=1)[0]
    assert line.startswith("warning: 3 examples of test are in train as well, byte for byte: ")
    assert line.endswith(", ...")


@pytest.mark.parametrize("size", [100, 2**14, 2**14 + 1, 50_000])
def test_what_differs_late_is_told_apart(tmp_path, size):
    head = np.random.default_rng(0).bytes(size - 1)
    contents = {"train/a": b"1", "train/b": b"2", "test/a": b"3", "test/b": b"2"}
    for place, last in contents.items():
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.bmp").write_bytes(head + last)
    found = repeats(SOURCES.create("folder", path=str(tmp_path)).splits)
    pair = tuple(str(tmp_path / split / "b" / "0.bmp") for split in ("train", "test"))
    assert found.pairs == {("train", "test"): [pair]}
    some = repeats(SOURCES.create("folder", path=str(tmp_path)).splits, 4 * 2**14 + 200)
    assert some.compared == (4 if size <= 2**14 else 0)


def test_what_is_too_large_is_left_out_and_said(photos):
    found = repeats(SOURCES.create("folder", path=str(photos)).splits, most_bytes=2000)
    assert 0 < found.compared < found.total == 20
    assert (
        describe_repeats(found)[-1]
        == f"compared: {found.compared} of 20 examples, the smaller files"
    )


def test_without_copies_nothing_is_warned_of(photos):
    splits = {"train": SOURCES.create("folder", path=str(photos / "train")).split("train")}
    assert describe_repeats(repeats(splits)) == [
        "no example is in two splits (10 compared byte for byte)"
    ]


def test_a_missing_file_is_no_copy(photos):
    splits = SOURCES.create("folder", path=str(photos)).splits
    (photos / "test" / "cat" / "x.bmp").unlink()
    assert len(repeats(splits).pairs["train", "test"]) == 2


def test_arrays_are_compared_too():
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 1), np.uint8)
    labels = np.zeros(20, np.int32)
    splits = {
        "train": ArraySplit(images[:12], labels[:12], "x_train"),
        "val": ArraySplit(images[12:], labels[12:], "x_val"),
        "test": ArraySplit(images[[3, 15, 3]], labels[:3], "x_test"),
    }
    assert repeats(splits).pairs == {
        ("train", "test"): [("x_train[3]", "x_test[0]"), ("x_train[3]", "x_test[2]")],
        ("val", "test"): [("x_val[3]", "x_test[1]")],
    }


def test_sizes_are_those_of_upright_images(tmp_path):
    for index, size in enumerate([(30, 20), (30, 20), (7, 50)]):  # width x height
        exif = Image.Exif()
        exif[0x0112] = 6 if index == 1 else 1
        (tmp_path / "ab"[index % 2]).mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "ab"[index % 2] / f"{index}.jpg", exif=exif)
    split = SOURCES.create("folder", path=str(tmp_path), val_fraction=0, test_fraction=0)
    found = sizes(split.split("train"))
    assert found.heights.tolist() == [20, 30, 50]
    assert found.widths.tolist() == [7, 20, 30]
    (tmp_path / "a" / "2.jpg").write_bytes(b"no image")
    assert sizes(split.split("train")).heights.tolist() == [20, 30]
    assert describe_sizes({"train": sizes(split.split("train"), most=2)}) == [
        "sizes in train (smallest / median / largest): height 20 / 30 / 30,"
        " width 20 / 30 / 30; of 2 of 3 images"
    ]


@dataclass
class Counted(Stored):
    """Ten thousand examples of different lengths, which counts those that are read."""

    first: int
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return 10_000

    def name(self, index: int) -> str:
        return f"{self.first}+{index}"

    def size(self, index: int) -> tuple[int, int]:
        return 1, 1

    def stored_bytes(self, index: int) -> int:
        return self.first + index

    def stored(self, index: int, most: int | None = None) -> bytes:
        self.read.append(index)
        return bytes(self.first + index)[:most]


def test_only_files_of_one_length_are_read():
    splits = {"train": Counted(0), "test": Counted(9_998)}
    assert repeats(splits).pairs == {
        ("train", "test"): [("0+9998", "9998+0"), ("0+9999", "9998+1")],
    }
    assert [sorted(split.read) for split in splits.values()] == [[9_998, 9_999], [0, 1]]
