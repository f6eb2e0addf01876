"""A run resumes with the data that it was trained on, or is told what differs."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import small_workdirs
from PIL import Image
from small_workdirs import contents, train

from vitjax import data as vitjax_data
from vitjax.core.errors import UserError
from vitjax.data import DataError, identity
from vitjax.data.identity import File, class_digest, of_array, of_files
from vitjax.data.sources import ArraySplit, Source
from vitjax.data.sources.tfds import TfdsSplit
from vitjax.training import checkpoints, workdir

FOLDER = {"source": "folder", "channels": 1, "val_fraction": 0.25, "test_fraction": 0.0}


def draw(path, seed, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    for number in range(16):
        draw(tmp_path / "photos" / ["cat", "dog"][number % 2] / f"{number:02}.png", number)
    return tmp_path / "photos"


def config_of(photos):
    data = {**FOLDER, "path": str(photos), "batch_size": 2, "eval_batch_size": 2}
    return {**small_workdirs.CLASSIFICATION, "data": data, "checkpoint": {}}


def identity_of(**section):
    return vitjax_data.create(batch_size=2, **section).identity()


def remove(photos):
    (photos / "cat" / "00.png").unlink()


def add(photos):
    draw(photos / "dog" / "99.png", 99)


def rename(photos):
    (photos / "cat" / "02.png").rename(photos / "cat" / "1.png")


def enlarge(photos):
    for file in (photos / "dog").iterdir():
        draw(file, 1, side=9)


def exchange(photos):
    for name in ("00.png", "01.png"):
        here, there = (photos / each / name for each in ("cat", "dog"))
        here, there = (here, there) if here.exists() else (there, here)
        here.rename(there)


CHANGES = {
    remove: "train has 11 examples, the run had 12 examples",
    add: "dog: ",
    rename: "cat: other names or sizes",
    enlarge: "dog: other names or sizes",
    exchange: "has other files",
}


@pytest.fixture
def begun(photos, tmp_path):
    return small_workdirs.make(tmp_path / "run", config_of(photos)), config_of(photos)


@pytest.mark.parametrize("change", CHANGES)
def test_other_files_are_refused_with_what_differs(begun, photos, change):
    folder, config = begun
    change(photos)
    before = contents(folder)
    with pytest.raises(DataError, match="--accept-data-change") as caught:
        train(folder, config=config)
    assert CHANGES[change] in str(caught.value)
    assert contents(folder) == before
    # An evaluation may be on other data.
    small_workdirs.evaluate(folder)


def test_another_class_is_refused_whatever_is_accepted(begun, photos):
    folder, config = begun
    draw(photos / "eel" / "1.png", 1)
    draw(photos / "eel" / "2.png", 2)
    with pytest.raises(UserError, match="the run does not have 'eel'"):
        train(folder, config=config, accept_data_change=True)


def test_an_accepted_change_is_recorded(begun, photos):
    folder, config = begun
    remove(photos)
    said = []
    with small_workdirs.without_steps(), pytest.raises(small_workdirs.Begun):
        small_workdirs.tasks.train(config, folder, (), said.append, accept_data_change=True)
    accepted = "train has 11 examples, the run had 12 examples"
    assert any(f"the data has changed, which was accepted: {accepted}" in line for line in said)
    # The rest of the run: one step.
    small_workdirs.tasks.train(config, folder, (), said.append, accept_data_change=True)
    progress = json.loads(
        (folder / workdir.CHECKPOINTS / "3" / "progress" / "metadata").read_text()
    )
    summary = json.loads((folder / workdir.SUMMARY).read_text())
    assert progress["data"] == vitjax_data.create(**config["data"]).identity()
    for changes in (progress["data_changes"], summary["data_changes"]):
        assert [each["step"] for each in changes] == [2]
        assert accepted in changes[0]["change"]


def test_a_run_without_a_step_left_takes_any_data(begun, photos):
    folder, config = begun
    config = {**config, "train": {"steps": 2}}
    remove(photos)
    said = []
    with small_workdirs.without_steps(), pytest.raises(small_workdirs.Begun):
        small_workdirs.tasks.train(config, folder, (), said.append)
    assert any("no step is left to learn from it: train has 11" in line for line in said)
    with pytest.raises(DataError, match="Nothing was overwritten"):
        train(folder, config={**config, "train": {"steps": 4}})


def test_after_damaged_checkpoints_were_moved_nothing_is_promised(begun, photos):
    folder, config = begun
    # The newest checkpoint is of the data as it is now; its arrays are damaged.
    remove(photos)
    train(folder, config=config, accept_data_change=True)
    newest = folder / workdir.CHECKPOINTS / "2"
    content = json.loads((newest / "progress" / "metadata").read_text())
    content["data"] = vitjax_data.create(**config["data"]).identity()
    content["fingerprint"] = "of other arrays"
    del content["digest"]
    saved = json.loads((newest / "config" / "metadata").read_text())
    content["digest"] = checkpoints._digest(content, saved)
    (newest / "progress" / "metadata").write_text(json.dumps(content))
    with pytest.raises(DataError, match="train has 11") as caught:
        train(folder, config=config)
    assert "overwritten" not in str(caught.value)
    assert (folder / "checkpoints_damaged" / "2").is_dir()


def test_another_test_image_resumes(photos, tmp_path):
    config = config_of(photos)
    config["data"] = {**config["data"], "val_fraction": 0.0}
    for split in ("train", "val", "test"):
        shutil.copytree(photos, tmp_path / "parts" / split)
    del config["data"]["val_fraction"], config["data"]["test_fraction"]
    config["data"]["path"] = str(tmp_path / "parts")
    folder = small_workdirs.make(tmp_path / "run", config)
    draw(tmp_path / "parts" / "test" / "cat" / "new.png", 99)
    train(folder, config=config)
    draw(tmp_path / "parts" / "val" / "cat" / "new.png", 99)
    with pytest.raises(DataError, match="val has 17 examples"):
        train(folder, config=config)


def test_moved_and_touched_files_are_the_same_data(begun, photos, tmp_path):
    folder, _ = begun
    for file in photos.rglob("*.png"):
        os.utime(file, (1, 1))
    photos.rename(tmp_path / "elsewhere")
    train(folder, [f"--config.data.path={tmp_path / 'elsewhere'}"])


def test_a_checkpoint_of_before_identities_resumes(begun, photos):
    folder, config = begun
    for step in ("1", "2"):
        file = folder / workdir.CHECKPOINTS / step / "progress" / "metadata"
        content = json.loads(file.read_text())
        del content["data"], content["digest"]
        file.write_text(json.dumps(content))
    remove(photos)
    train(folder, config=config)


def test_a_list_of_files_is_compared_by_labels_and_weights_too(photos, tmp_path):
    files = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))

    def found(label=lambda i: "ab"[i % 2], weight=lambda i: 1.0, names=files):
        splits = ["train"] * 12 + ["val"] * 4
        rows = [f"{name},{label(i)},{weight(i)},{splits[i]}" for i, name in enumerate(names)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label,weight,split", *rows]))
        return identity_of(source="manifest", path=str(tmp_path / "list.csv"), root=str(photos))

    plain = found()
    assert identity.differences(plain, found()) == ""
    assert "other labels" in identity.differences(plain, found(label=lambda i: "ab"[i // 2 % 2]))
    assert "other weights" in identity.differences(plain, found(weight=lambda i: 1.0 + i))
    # Absolute paths in the list of a folder that was moved with it.
    absolute = found(names=[str(photos / name) for name in files])
    assert identity.differences(plain, absolute) == ""


def arrays(path, seed=0, count=8, dtype=np.uint8):
    images = np.random.default_rng(seed).integers(0, 255, (count, 4, 4, 1)).astype(dtype)
    np.savez(path, x_train=images, y_train=np.arange(count) % 2)
    return identity_of(source="npz", path=str(path))


def test_arrays_are_compared_by_content(tmp_path):
    plain = arrays(tmp_path / "a.npz")
    assert identity.differences(plain, arrays(tmp_path / "b.npz")) == ""
    words = identity.differences(plain, arrays(tmp_path / "a.npz", seed=1))
    assert words == "train has other examples in the same number, or in another order"
    assert "has 10 examples, the run had 8" in identity.differences(
        plain, arrays(tmp_path / "a.npz", count=10)
    )
    assert identity.differences(plain, arrays(tmp_path / "a.npz", dtype=np.float32))


def test_a_large_array_is_compared_by_rows(monkeypatch):
    array = np.arange(64, dtype=np.int64).reshape(16, 4)
    whole = of_array(array)
    monkeypatch.setattr(identity, "_MOST_BYTES", 100)
    monkeypatch.setattr(identity, "_ROWS", 4)
    some = of_array(array)
    assert some != whole
    array[15, 0] = -1
    assert of_array(array) != some
    assert of_array(array) == of_array(array[np.arange(16)])


@pytest.mark.parametrize(
    "array",
    [
        *(
            np.arange(24).reshape(2, 3, 4),
            np.zeros((0, 3)),
            np.asarray(3.0),
            np.asarray(["a", "bc"]),
        ),
        *(np.zeros(3, bool), np.zeros(2, np.float16), np.datetime64("2020-01-01") + np.arange(3)),
        *([0, 1, 1], np.asarray([{"a": 1}, None]), np.arange(24).reshape(4, 6).T[::2]),
    ],
    ids=str,
)
def test_arrays_of_any_kind_have_an_identity(array):
    assert of_array(array) == of_array(copy.deepcopy(array))


def test_a_split_of_ones_own_may_have_a_list_of_labels():
    images = np.zeros((4, 2, 2, 1), np.uint8)

    def found(labels):
        return Source({"train": ArraySplit(images, labels, "x")}, ("a", "b")).identity()

    assert found([0, 1, 0, 1]) == found(np.asarray([0, 1, 0, 1]))
    assert found([0, 1, 0, 1]) != found([0, 1, 1, 1])
    assert found([0.0, 1.0, 0.0, 1.0]) == found(np.asarray([0, 1, 0, 1], np.float64))


def test_no_files_have_an_identity(tmp_path):
    assert of_files([]) == of_files([]) == of_files([], str(tmp_path))


@pytest.mark.parametrize(
    "section",
    [
        {"source": "digits"},
        {"source": "synthetic", "image_size": 8, "examples": 20, "val_examples": 10},
        {"source": "cells", "size": 32, "train": 2, "val": 1, "test": 1},
        {
            **{"source": "glyphs", "classes": 15, "drawings": 4, "image_size": 8},
            "episodes": {"ways": 2, "shots": 1, "queries": 1},
        },
    ],
    ids=lambda section: section["source"],
)
def test_generated_sources_know_what_they_are(section):
    found = identity_of(**section)
    assert set(found) == {"train", "val"}
    assert all(split["examples"] > 0 and split["digest"] for split in found.values())
    assert identity_of(**section) == found
    assert json.loads(json.dumps(found)) == found


def test_functions_have_no_examples():
    section = {"source": "sinusoid", "episodes": {"shots": 5, "queries": 5}}
    assert identity_of(**section) == {}


def test_images_and_masks_are_compared(tmp_path):
    for number in range(4):
        draw(tmp_path / "images" / f"{number}.png", number)
        mask = np.zeros((8, 8), np.uint8)
        mask[:4] = 1
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "labels" / f"{number}.png")

    def found(path):
        section = {"source": "masks", "path": str(path), "val_count": 1, "classes": [0, 1]}
        return identity_of(**section)

    plain = found(tmp_path)
    moved = tmp_path / "moved"
    for name in ("images", "labels"):
        shutil.copytree(tmp_path / name, moved / name)
    assert identity.differences(plain, found(moved)) == ""
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(moved / "labels" / "0.png")
    words = identity.differences(plain, found(moved))
    assert "labels: other names or sizes" in words
    assert "images:" not in words


def test_of_a_prepared_data_set_the_files_of_the_split_count(test_data, tmp_path):
    """Links to the files of a data set, some of which are replaced."""
    original = next((test_data / "tfds" / "omniglot").iterdir())
    folder = tmp_path / "omniglot" / original.name
    folder.mkdir(parents=True)
    for file in original.iterdir():
        (folder / file.name).symlink_to(file)

    def found(split="train"):
        split = TfdsSplit(str(folder), split, "image", "label", 3, "omniglot")
        return split.identity()

    plain, part = found(), found("train[:10]")
    assert plain.digest == found().digest != part.digest
    (folder / ".nfs0001").write_text("x")
    (folder / "README.txt").write_text("x")
    shards = {split: sorted(folder.glob(f"*-{split}.*"))[0] for split in ("test", "train")}
    for split, same in (("test", True), ("train", False)):
        shards[split].unlink()
        shards[split].write_text("of another size")
        assert (found() == plain) == same
        assert (found("train[:10]") == part) == same


def test_the_order_of_files_and_names_that_are_not_utf_8_count(tmp_path):
    names = ["a.png", os.fsdecode(b"\xff.png"), "b\n.png"]
    for name in names:
        (tmp_path / name).write_text(name, errors="surrogateescape")
    files = [File(name) for name in names]
    plain = of_files(files, str(tmp_path))
    assert of_files(files, str(tmp_path)) == plain
    assert of_files(files[::-1], str(tmp_path)).digest != plain.digest
    (tmp_path / "a.png").unlink()  # it is reported when it is read
    assert of_files(files, str(tmp_path)).digest != plain.digest


def test_classes_count_by_name_not_by_number():
    labels = np.asarray([0, 1, 1, 2], np.int32)
    same = class_digest(np.asarray([2, 0, 0, 1], np.int32), ["b", "c", "a"])
    assert class_digest(labels, ["a", "b", "c"]) == same
    assert class_digest(labels, ["a", "c", "b"]) != same
