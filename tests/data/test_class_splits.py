"""Which classes are for training, validation and testing: the stored files, and one's own."""

from __future__ import annotations

import json
import logging
import random
from itertools import chain, combinations

import pytest

import vitjax.data
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.episodes import class_splits
from vitjax.data.sources import SOURCES

SIZES = {
    "omniglot_finn": (1100, 100, 423),
    "omniglot_vinyals": (1028, 172, 423),
    "miniimagenet_ravi": (64, 16, 20),
}


@pytest.fixture
def omniglot(test_data):
    return SOURCES.create("tfds", dataset="omniglot", data_dir=str(test_data / "tfds"))


@pytest.mark.parametrize("name", SIZES)
def test_stored_splits_have_the_published_sizes_and_share_nothing(name):
    splits = class_splits.load(name)
    assert tuple(splits) == ("train", "val", "test")
    assert tuple(map(len, splits.values())) == SIZES[name]
    for one, other in combinations(splits.values(), 2):
        assert not set(one) & set(other)
    assert set(class_splits.stored()) == set(SIZES)


def test_both_splits_of_omniglot_hold_all_its_characters(omniglot):
    for name in ("omniglot_finn", "omniglot_vinyals"):
        splits = class_splits.load(name)
        assert sorted(chain(*splits.values())) == sorted(omniglot.class_names)
        found = class_splits.resolve(name, omniglot.class_names)
        assert [omniglot.class_names[c] for c in found["val"]] == splits["val"]


def test_the_names_of_omniglots_characters_are_those_of_its_alphabets(test_data, omniglot):
    # TFDS stores the alphabet and the number of the character beside the label.
    folder = str(test_data / "tfds")
    numbers = SOURCES.create(
        "tfds", dataset="omniglot", data_dir=folder, label_key="alphabet_char_id"
    )
    alphabets = SOURCES.create("tfds", dataset="omniglot", data_dir=folder, label_key="alphabet")
    for split in ("train", "test"):
        names = [omniglot.class_names[c] for c in omniglot.split(split).labels]
        labels = zip(alphabets.split(split).labels, numbers.split(split).labels, strict=True)
        assert names == [f"{alphabets.class_names[a]}/character{n + 1:02d}" for a, n in labels]


def test_the_split_with_finns_counts_is_made_as_it_says():
    everything = sorted(chain(*class_splits.load("omniglot_vinyals").values()))
    random.Random(1).shuffle(everything)
    splits = class_splits.load("omniglot_finn")
    assert set(everything[:1100]) == set(splits["train"])
    assert set(everything[1100:1200]) == set(splits["val"])
    assert set(everything[1200:]) == set(splits["test"])


def test_mini_imagenets_folders_are_those_of_the_split(test_data):
    splits = class_splits.load("miniimagenet_ravi")
    for split in ("train", "val"):
        folders = {path.name for path in (test_data / "miniimagenet" / split).iterdir()}
        assert folders == set(splits[split])


def test_a_split_that_is_missing_as_a_whole_is_left_out(caplog):
    split = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}
    with caplog.at_level(logging.WARNING):
        assert class_splits.resolve(split, ["c", "x", "a", "b"]) == {"train": [2, 3], "val": [0]}
    assert "split 'test' is left out: the data has none of its 2 classes" in caplog.text


def test_a_class_without_images_is_one_that_the_data_lacks(test_data):
    section = {"source": "tfds", "dataset": "omniglot", "data_dir": str(test_data / "tfds")}
    background = {"splits": {"train": "train"}, "batch_size": 1}
    message = r"has 6\d\d of the 1100 classes of split 'train' .*images of 964 classes"
    with pytest.raises(DataError, match=message):
        vitjax.data.create(**section, **background, episodes={"class_split": "omniglot_finn"})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["a", "b"], "test": ["b"]}, r"'train' and 'test' share 1 class \('b'\)"),
        ({"train": ["a", "b", "a"]}, r"1 class \('a'\) occur twice in 'train'"),
        ({"train": ["a", "cat"]}, r"1 of the 2 classes of split 'train' and lacks .*'cat'"),
        ({"train": ["x", "y"]}, r"0 of the 2 classes of split 'train'"),
        ({"train": ["a"], "val": ["b", "d"]}, r"split 'val' and lacks 1 class \('d'\)"),
        ({"train": ["a"], "vla": ["b"]}, r"'vla' is not a split; did you mean 'val'"),
        ({"val": ["a"]}, r"no classes for 'train'"),
        ({"train": []}, r"no classes for 'train'"),
        ({"train": "ab"}, r"'train' is not a list of names"),
        ({"train": [1, 2]}, r"'train' is not a list of names"),
        (["a"], r'a class split is \{"train"'),
    ],
)
def test_what_is_wrong_with_a_split_is_said(split, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(split))
    with pytest.raises(DataError, match=message):
        class_splits.resolve(str(path), ["a", "b", "c"])


def test_a_file_may_say_what_it_is_about(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"about": "by hand", "val": ["b"], "train": ["a"], "test": []}')
    assert class_splits.load(str(path)) == {"train": ["a"], "val": ["b"]}
    path.write_text("{train:")
    with pytest.raises(DataError, match=r"mine.json: cannot be read as JSON"):
        class_splits.load(str(path))


def test_unknown_names_have_near_matches():
    with pytest.raises(ConfigError, match=r"'omniglot_fin'.*did you mean 'omniglot_finn'"):
        class_splits.load("omniglot_fin")


def test_the_command_deals_the_classes_of_any_source(tmp_path, capsys):
    path = tmp_path / "digits.json"
    assert main(["class_split", str(path), "source=digits", "--counts", "5", "2", "3"]) == 0
    assert "5 train, 2 val, 3 test" in capsys.readouterr().out
    data = vitjax.data.create(
        source="digits", batch_size=2, episodes={"ways": 2, "class_split": str(path)}
    )
    assert [n["classes"] for n in data.counts().values()] == [5, 2, 3]
    # No picture is lost: all of the source's own splits are pooled.
    assert sum(n["images"] for n in data.counts().values()) == 1797


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source=digits", "--counts", "9", "2", "3"], "and there are 10 classes"),
        (["source=digits", "--counts", "0", "2", "3"], "counts are [0, 2, 3]"),
        (["path=x"], "the key 'source' is missing"),
        (["source=digit"], "did you mean 'digits'"),
        (["source=digits", "pth=3"], "unknown key 'pth'"),
    ],
)
def test_the_command_names_what_is_wrong(tmp_path, capsys, arguments, words):
    assert main(["class_split", str(tmp_path / "a.json"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()
