"""Folders as people have them: names of splits, what stands around them, and what lies in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitjax.core.errors import UserError
from vitjax.core.file_tree import IMAGE_SUFFIXES
from vitjax.data import DataError
from vitjax.data.image_files import read_image
from vitjax.data.sources import SOURCES
from vitjax.data.split_names import split_named, splits_among

IMAGE = Image.new("RGB", (3, 2), (9, 9, 9))


@pytest.fixture
def folder(tmp_path: Path):
    """Makes folders of PNG images, two in each unless "name:count" says otherwise."""

    def make(*folders: str) -> Path:
        for each in folders:
            name, _, count = each.partition(":")
            place = tmp_path / "photos" / name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(int(count or 2)):
                IMAGE.save(place / f"{index}.png")
        return tmp_path / "photos"

    return make


def read(path: Path, **keywords):
    source = SOURCES.create("folder", path=str(path), **keywords)
    return {split: len(held) for split, held in source.splits.items()}, source


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", None, "Test"),
        ("Training", None, "Testing"),
        ("training_set", None, "test_set"),
        ("training", "validation", None),
        ("TRAIN", "Valid", "TEST"),
        ("train-images", "dev", "eval"),
        ("01_train", "02_val", "03_test"),
        ("train2017", "val2017", "test2017"),
        ("trainset", "valset", "testset"),
        ("train", "eval", "test"),
        ("seg_train", None, "seg_test"),
        ("flowers-train", "flowers-val", "flowers-test"),
        ("flowers_train_v2", None, "flowers_test_v2"),
        ("train1", None, "test1"),
        ("train_70", "val_10", "test_20"),
        ("train 70%", None, "test 30%"),
    ],
)
def test_splits_are_recognised_by_their_usual_names(folder, train, val, test):
    names = {"train": train, "val": val, "test": test}
    there = {split: name for split, name in names.items() if name}
    root = folder(*(f"{name}/{each}" for name in there.values() for each in ("cat", "dog")))
    counts, source = read(root)
    assert counts == dict.fromkeys(there, 4)
    assert source.class_names == ("cat", "dog")
    for split, name in there.items():
        assert f"{split} = {root / name} (4 images)" in source.notes[0]


@pytest.mark.parametrize("name", ["train_station", "bullet_train", "trains", "contest", "value"])
def test_other_names_are_no_splits(name):
    assert split_named(name) is None
    assert splits_among([name, "cat", "dog"]) == {}


@given(
    st.sampled_from(["train", "training", "val", "valid", "validation", "dev", "test", "testing"]),
    st.sampled_from(["", "set", "_set", "-images", " data", "Split"]),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_case_and_punctuation_of_a_split_do_not_matter(word, more, case):
    expected = {"tr": "train", "va": "val", "de": "val", "te": "test"}[word[:2]]
    assert split_named(case(word + more)) == expected


def test_a_folder_around_the_data_is_passed_through(folder):
    root = folder(
        "archive/dataset/train/cat", "archive/dataset/train/dog", "archive/dataset/val/cat"
    )
    (root / "archive" / "docs").mkdir()
    (root / "archive" / "docs" / "readme.md").write_text("")
    counts, source = read(root)
    assert counts == {"train": 4, "val": 2}
    assert f"{root / 'archive' / 'dataset'} is read" in source.notes[0]
    flat, _ = read(folder("more/a:5", "more/b:5").parent / "photos" / "more")
    assert flat == {"train": 8, "val": 1, "test": 1}


@pytest.mark.parametrize("around", ["", "archive/flowers/"])
def test_how_to_read_all_of_a_folder_without_splits_is_said(folder, around):
    root = folder(f"{around}a:5", f"{around}b:5")
    (line,) = [note for note in read(root)[1].notes if "config.data.splits" in note]
    inner = line.partition("--config.data.splits.test=")[2].split()[0]
    counts, source = read(root, splits={"test": inner})
    assert (counts, source.class_names) == ({"test": 10}, ("a", "b"))
    for without in ({"test_fraction": 0.0}, {"splits": {"train": inner}, "val_fraction": 0.1}):
        assert not any("config.data.splits" in note for note in read(root, **without)[1].notes)


def test_a_folder_of_the_same_name_inside_a_split_is_passed_through(folder):
    root = folder("seg_train/seg_train/a", "seg_train/seg_train/b", "seg_test/seg_test/a")
    counts, source = read(root)
    assert counts == {"train": 4, "test": 2}
    assert source.class_names == ("a", "b")


def test_the_only_class_of_a_small_split_is_not_passed_through(folder):
    counts, source = read(folder("train/a", "train/b", "val/b/north", "val/b/south"))
    assert counts == {"train": 4, "val": 4}
    assert source.split("val").labels.tolist() == [1] * 4
    root = folder(
        "episodes/train/a", "episodes/train/b", "episodes/val/c/north", "episodes/val/c/south"
    )
    assert read(root / "episodes", classes="all")[1].class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("folders", "keywords", "message"),
    [
        (["train", "test"], {}, "train, test are named like splits and hold images without class"),
        (["test"], {}, "test is named like a split and holds images"),
        (
            ["cat", "dog", "test"],
            {},
            r"two ways: test as a split.*\['cat', 'dog'\] leaves test out",
        ),
        (["cat", "dog", "pig", "train/cat", "train/dog"], {}, r"splits = {'train': 'train'}"),
        (["train/a", "train/b", "other"], {}, "train as a split.*and other as something else"),
        (["cat", "dog", "pig", "train", "test"], {}, "train, test as splits"),
        (["train/a", "training/a"], {}, "train and .*training both exist"),
        (["train/a", "test:0"], {}, "test has no class folders"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], {}, "cat holds the folders test and"),
        (["a/train/x", "a/test/x", "b/train/x", "b/test/x"], {}, "If .*a is the data set"),
        (["fold1/a", "fold1/b", "fold2/a", "fold2/b"], {}, r"fold1, fold2 each hold .*a, b and no"),
        (["query/a", "query/b", "gallery/a", "gallery/b", "gallery/c"], {}, "gallery, query each"),
        (["a/x", "a/y", "b/x", "b/y"], {"classes": ["x", "y"]}, r"{'train': 'a', 'test': 'b'}"),
        (["a", "b"], {"splits": {"train": ".", "val": "."}}, "'train' and 'val' are the same"),
        (["o/a", "o/b"], {"splits": {"train": "o", "test": "./o/"}}, "the same folder .*o"),
        (["a", "b"], {"splits": {"trian": "a"}}, "'trian' is not a split; did you mean 'train'"),
        (["photos/x"], {"splits": {"train": "photo"}}, "no folder .*did you mean 'photos'"),
        (["cat", "dog"], {"classes": ["cat", "dgo"]}, "'dgo', which is not a class; did you mean"),
        (["train/a", "train/b", "test/c"], {"classes": ["a", "b"]},
         r"test: the split 'test' has no images .*a, b \(it has: c\);.*{'train': 'train'} reads"),
        (["cat", "dog"], {"classes": ["cat", "cat"]}, "'cat' twice"),
        (["cat", "dog"], {"classes": ["cat"]}, "classes is .*at least 2"),
        (["train/a", "train/b", "val/c"], {"classes": ["a", "c"]}, "'c', of which 'train' has no"),
        (["cat", "dog:0"], {}, "dog has no image: images are files of the kinds .png"),
        (["cat/inner/deep", "dog:0"], {}, "dog has no image"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(folder, folders, keywords, message):
    with pytest.raises(UserError, match=message):
        read(folder(*folders), **keywords)


def test_folders_that_hold_the_same_folders_are_read_as_a_config_says(folder):
    root = folder(*(f"{fold}/{name}" for fold in ("fold1", "fold2") for name in ("a", "b")))
    assert read(root, splits={"train": "fold1", "test": "fold2"})[0] == {"train": 4, "test": 4}
    whole = {"val_fraction": 0, "test_fraction": 0}
    assert read(root, classes=["fold1", "fold2"], **whole)[1].class_names == ("fold1", "fold2")
    assert len(read(root, levels=2, **whole)[1].class_names) == 4


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/day", "cat/night", "dog/day"],
        ["cat/day", "cat/night", "dog/north", "dog/south"],
        ["cat", "cat/day", "cat/night", "dog", "dog/day", "dog/night"],
    ],
)
def test_folders_inside_of_classes_are_read(folder, folders):
    assert read(folder(*folders))[1].class_names == ("cat", "dog")


def test_a_class_called_test_among_many_is_a_class(folder):
    _, source = read(folder("bus", "car", "test", "truck"))
    assert source.class_names == ("bus", "car", "test", "truck")
    assert "test is read as a class, like the 3 folders beside it" in source.notes[0]


def test_a_config_says_which_folders_are_splits_or_classes(folder):
    root = folder("cat:4", "dog:4", "test", "exam/cat", "exam/dog", "photos/cat", "photos/dog")
    counts, _ = read(root, splits={"train": "photos", "test": "exam"})
    assert counts == {"train": 4, "test": 4}
    everything = {"val_fraction": 0, "test_fraction": 0}
    counts, source = read(root, classes=["dog", "cat"], **everything)
    assert counts == {"train": 8}
    assert source.class_names == ("dog", "cat")
    assert source.split("train").labels.tolist() == [1] * 4 + [0] * 4
    inside = root / "inside"
    folder(*(f"inside/{split}/{name}" for split in ("train", "test") for name in ("cat", "test")))
    assert read(inside, classes=["cat", "test"])[0] == {"train": 4, "test": 4}
    (root / "cat" / "train").mkdir()
    (root / "cat" / "test").mkdir()
    assert read(root, classes=["dog", "cat"], **everything)[0] == {"train": 8}
    counts, source = read(root, classes=("test", "cat"), **everything)
    assert counts == {"train": 6}
    assert source.class_names == ("test", "cat")


def test_classes_that_are_not_chosen_are_counted(folder):
    root = folder("train/a:3", "train/b:3", "train/c:4", "val/a", "val/c")
    counts, source = read(root, classes=["b", "a"])
    assert counts == {"train": 6, "val": 2}
    assert "classes: 2 of 3; 6 images of the others (c) are left out" in source.notes


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["train"], {"train": 8}),
        (["train", "val"], {"train": 8, "val": 8}),
        (["train", "test"], {"train": 8, "test": 8}),
        (["train", "val", "test"], {"train": 8, "val": 8, "test": 8}),
        (["test"], {"test": 8}),
    ],
)
def test_val_is_held_out_where_it_does_not_exist(folder, there, expected):
    root = folder(*(f"{split}/{name}:4" for split in there for name in "ab"))
    assert read(root)[0] == expected
    counts, source = read(root, val_fraction=0.25)
    if "train" in there and "val" not in there:
        expected = {**expected, "train": 6, "val": 2}
        assert "val: 2 of 8 examples are held out of train" in source.notes
        assert np.bincount(source.split("val").labels).tolist() == [1, 1]
    assert counts == expected


def test_a_test_set_without_classes_is_left_out(folder):
    counts, source = read(folder("train/a", "train/b", "test:7"))
    assert counts == {"train": 4}
    assert "test holds 7 images outside of class folders: it is left out" in source.notes[0]


def test_images_outside_of_class_folders_are_counted(folder):
    root = folder("cat", "dog", ".:3")
    _, source = read(root, val_fraction=0, test_fraction=0)
    assert f"warning: {root}: 3 images stand outside of class folders" in source.notes[-1]


def test_several_levels_of_folders_name_a_class(folder):
    names = ("indoor/bath", "indoor/kitchen", "outdoor/lake")
    root = folder(*(f"{name}/{part}" for name in names for part in ("one", "two")), "indoor:1")
    whole = {"val_fraction": 0, "test_fraction": 0}
    assert read(root, **whole)[1].class_names == ("indoor", "outdoor")
    counts, source = read(root, levels=2, **whole)
    assert (counts, source.class_names) == ({"train": 12}, names)
    assert f"warning: {root}: 1 images stand outside of class folders" in source.notes[2]
    _, source = read(root, levels=3, **whole)
    assert source.class_names[:2] == ("indoor/bath/one", "indoor/bath/two")
    with pytest.raises(DataError, match="no folders 4 levels below it"):
        read(root, levels=4)


def test_a_level_of_one_folder_is_part_of_the_name(folder):
    counts, source = read(
        folder("train/Greek/alpha", "train/Greek/beta", "val/Latin/a"), levels=2, classes="all"
    )
    assert counts == {"train": 4, "val": 2}
    assert source.class_names == ("Greek/alpha", "Greek/beta", "Latin/a")


def written(path: Path, suffix: str) -> None:
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".dib": "BMP", ".pgm": "PPM", ".pbm": "PPM"}
    picture = {".pgm": IMAGE.convert("L"), ".pbm": IMAGE.convert("1")}.get(suffix, IMAGE)
    picture.save(path, {**kinds, ".pnm": "PPM"}.get(suffix))


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_kind_of_image_is_read(folder, suffix):
    root = folder("cat:0", "dog:0")
    for name in ("cat", "dog"):
        written(root / name / f"x{suffix}", suffix)
        written(root / name / f"y{suffix.upper()}", suffix)
    counts, source = read(root, val_fraction=0, test_fraction=0)
    assert counts == {"train": 4}
    assert source.split("train").read(3).image.shape == (2, 3, 3)


@pytest.mark.parametrize("suffix", [".gif", ".tiff", ".webp"])
def test_of_several_pages_the_first_is_read(tmp_path, suffix):
    pages = [Image.new("RGB", (3, 2), colour) for colour in ("white", "black")]
    pages[0].save(tmp_path / f"film{suffix}", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / f"film{suffix}", 3).min() > 250


def test_files_that_are_no_images_are_named(folder):
    root = folder("cat", "dog:0")
    for index in range(12):
        (root / "dog" / f"{index}.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"dog has no image that can be read \(it holds 12 .heic"):
        read(root)
    IMAGE.save(root / "dog" / "x.png")
    _, source = read(root, val_fraction=0, test_fraction=0)
    assert f"{root}: 12 files are not images and are left out (12 .heic)" in source.notes


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "__MACOSX", ".thumbnails", "#recycle", "$RECYCLE.BIN", "System Volume Information"],
)
def test_what_systems_leave_in_folders_is_not_read(folder, name):
    root = folder("cat", "dog", f"{name}:3", f"cat/{name}:3", f"cat/{name}/x.png:3")
    for file in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", "cat/Thumbs.db"):
        (root / file).write_bytes(b"")
    counts, source = read(root, val_fraction=0, test_fraction=0)
    assert counts == {"train": 4}
    assert source.class_names == ("cat", "dog")
    assert len(source.notes) == 2


def links(root: Path, pairs: Sequence[tuple[str, str]]) -> None:
    for link, target in pairs:
        (root / link).symlink_to(os.path.relpath(root / target, (root / link).parent))


@pytest.mark.parametrize(
    "pairs",
    [
        [("cat/again", "cat")],
        [("cat/up", ".")],
        [("everything", ".")],
        [("cat/deep/up", "cat"), ("cat/deep/also", "cat/deep")],
        [("cat/one", "cat/deep"), ("cat/two", "cat/deep")],
        [("cat/itself", "cat/itself")],
    ],
)
def test_links_do_not_multiply_a_class(folder, pairs):
    root = folder("cat", "cat/deep", "dog")
    links(root, pairs)
    counts, source = read(root, val_fraction=0, test_fraction=0)
    assert counts == {"train": 6}
    assert source.class_names == ("cat", "dog")


def test_a_class_that_is_a_link_to_another_is_said(folder):
    root = folder("train/cat", "train/dog", "val/cat")
    links(root, [("train/cats", "train/cat")])
    _, source = read(root)
    assert source.class_names == ("cat", "cats", "dog")
    assert source.notes[-1] == (
        f"warning: {root}/train: the classes cat, cats are one folder, {root}/train/cat, by links:"
        " each has its images"
    )


def test_folders_are_followed_through_links(folder, tmp_path):
    root = folder("real/cat:3", "real/dog:3")
    (tmp_path / "linked" / "train").mkdir(parents=True)
    links(tmp_path, [(f"linked/train/{name}", f"photos/real/{name}") for name in ("cat", "dog")])
    assert read(tmp_path / "linked")[0] == {"train": 6}
    links(tmp_path, [("linked/val", "linked/train")])
    with pytest.raises(DataError, match=r"'train' and 'val' are the same folder .*train \(.*val\)"):
        read(tmp_path / "linked")
    assert read(root / "real", val_fraction=0, test_fraction=0)[0] == {"train": 6}


def test_a_path_that_is_no_folder_of_classes(folder, tmp_path):
    root = folder("cat:3", "dog")
    with pytest.raises(
        DataError, match=r"cat has no class folders \(it holds 3 images\).*manifest"
    ):
        read(root / "cat")
    with pytest.raises(DataError, match=r"0.png is a file, and must be a folder"):
        read(root / "cat" / "0.png")
    (tmp_path / "photos.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"photos.csv is a table: config.data.source = 'manifest'"):
        read(tmp_path / "photos.csv")


def test_folders_of_masks_follow_the_same_rules(tmp_path):
    for split in ("Training", "Validation"):
        for kind in ("images", "masks", "images/@eaDir/0.png", "masks/.cache"):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / split / kind / "0.png")
        links(
            tmp_path, [(f"{split}/images/again", f"{split}/images"), (f"{split}/masks/up", split)]
        )
    source = SOURCES.create("masks", path=str(tmp_path), classes=(0, 1))
    assert {split: len(held) for split, held in source.splits.items()} == {"train": 1, "val": 1}
