"""What ``vitjax data`` reports of a data set, and what training refuses to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.tasks.tables import imbalance, say_counts
from vitjax.training import loop

RNG = np.random.default_rng(0)


def config(**data):
    return {
        "model": {"name": "mlp_omniglot", "hidden": (4,)},
        "data": {
            "source": "folder",
            "batch_size": 8,
            "train_transforms": "resize((16, 16))",
            "eval_transforms": "resize((16, 16))",
            **data,
        },
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "train": {"steps": 1},
    }


@pytest.fixture
def photos(tmp_path: Path):
    """Makes folders of random images of 8x6 pixels, as many as "name:count" says."""

    def make(*folders: str) -> str:
        for each in folders:
            name, _, count = each.partition(":")
            (tmp_path / "photos" / name).mkdir(parents=True)
            for index in range(int(count)):
                image = Image.fromarray(RNG.integers(0, 255, (8, 6, 3), np.uint8))
                image.save(tmp_path / "photos" / name / f"{index}.png")
        return str(tmp_path / "photos")

    return make


def inspected(experiment, output) -> list[str]:
    said: list[str] = []
    experiment.task.inspect(output, said.append)
    return said


def test_counts_fractions_imbalance_sizes_and_copies(photos, tmp_path):
    path = photos("Training/cat:6", "Training/dog:2", "Testing/cat:1", "Testing/dog:3")
    copy = Path(path, "Testing", "dog", "x.png")
    copy.write_bytes(Path(path, "Training", "cat", "0.png").read_bytes())
    experiment = vitjax.build(config(path=path))
    said = inspected(experiment, tmp_path / "batch.png")
    assert [line.split() for line in said[:5]] == [
        ["class", "train", "%", "test", "%"],
        ["cat", "6", "75.0%", "1", "20.0%"],
        ["dog", "2", "25.0%", "4", "80.0%"],
        ["all", "8", "100.0%", "5", "100.0%"],
        ["imbalance", "of", "train:", "3.0", "(cat", "6", "/", "dog", "2)"],
    ]
    size = "(smallest / median / largest): height 8 / 8 / 8, width 6 / 6 / 6; of"
    assert f"sizes in test {size} 5 images" in said
    original = Path(path, "Training", "cat", "0.png")
    expected = f"1 examples of test are in train as well, byte for byte: {copy} = {original}"
    assert f"warning: {expected}" in said
    assert experiment.data.notes[0].startswith(f"train = {path}/Training (8 images), test = ")


def test_imbalance_in_words():
    assert imbalance({"a": 3, "b": 3}) == "none, all classes are of one size"
    assert imbalance({"a": 3, "b": 12}) == "4.0 (b 12 / a 3)"
    assert imbalance({"a": 3, "b": 0}) == "no examples of b"


def test_an_empty_split_has_no_fractions():
    said: list[str] = []
    say_counts({"train": {"a": 1}, "val": {"a": 0}}, ["a"], said.append)
    assert said[1].split() == ["a", "1", "100.0%", "0", "-"]


def test_masks_are_measured_and_compared_by_the_same_function(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(count):
            image = np.full((8, 6 + index), 50 * index, np.uint8)
            Image.fromarray(image).save(tmp_path / split / "images" / f"{index}.png")
            Image.fromarray(image % 3 // 2).save(tmp_path / split / "masks" / f"{index}.png")
    data = vitjax.data.create(
        source="masks", path=str(tmp_path), classes=(0, 1), batch_size=1, train_transforms="crop(4)"
    )
    stored = data.stored("train")
    assert stored is not None
    assert [stored.size(index) for index in range(3)] == [(8, 6), (8, 7), (8, 8)]
    from vitjax.data.comparing import repeats

    found = repeats({split: data.stored(split) for split in data.splits})
    assert len(found.pairs["train", "val"]) == 2


@pytest.mark.parametrize("source", ["folder", "npz", "manifest"])
def test_one_class_is_refused_before_anything_is_written(photos, tmp_path, source):
    path = photos("train/cat:3")
    if source == "npz":
        path = str(tmp_path / "one.npz")
        np.savez(path, x_train=np.zeros((3, 6, 6, 3), np.uint8), y_train=np.zeros(3, int))
    elif source == "manifest":
        Path(path, "all.csv").write_text("path,label\ntrain/cat/0.png,cat\ntrain/cat/1.png,cat\n")
        path = str(Path(path, "all.csv"))
    experiment = vitjax.build(config(source=source, path=path))
    with pytest.raises(ConfigError, match=r"the data has one class, '(cat|0)'"):
        loop.train(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_reports_what_was_understood_and_then_refuses_one_class(photos, tmp_path, capsys):
    path = photos("train/cat:3")
    file = tmp_path / "one.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config():\n    return ConfigDict({config(path=path)!r})\n"
    )
    assert main(["data", f"--config={file}", f"--output={tmp_path / 'x.png'}"]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith(f"train = {path}/train (3 images)\n")
    assert "the data has one class, 'cat'" in shown.err


def test_data_without_train_is_evaluated_and_not_trained_on(photos, tmp_path):
    experiment = vitjax.build(
        {**config(path=photos("test/cat:3", "test/dog:2")), "checkpoint": {"best": "val/accuracy"}}
    )
    assert experiment.data.splits == ("test",)
    with experiment.data.eval_batches("test") as batches:
        assert sum(batch["mask"].sum() for batch in batches) == 5
    assert inspected(experiment, tmp_path / "x.png")[0].split() == ["class", "test", "%"]
    with pytest.raises(ConfigError, match=r"no split 'train' to learn from \(there are: test\)"):
        loop.train(experiment, tmp_path / "run")
    with pytest.raises(vitjax.data.DataError, match="no split 'train'"):
        experiment.data.train_batches()


@pytest.mark.parametrize("section", ["checkpoint", "early_stopping"])
def test_the_error_for_a_missing_val_says_what_can_be_done(photos, section):
    wrong = config(path=photos("train/cat:4", "train/dog:4", "test/cat:2"))
    where = "config.checkpoint.best"
    if section == "checkpoint":
        wrong["checkpoint"] = {"best": "val/accuracy"}
    else:
        wrong["train"]["early_stopping"] = {"metric": "val/accuracy", "patience": 5}
        where = "config.train.early_stopping"
    with pytest.raises(ConfigError) as error:
        vitjax.build(wrong)
    assert "no split 'val' (there are: train, test)" in str(error.value)
    assert "--config.data.val_fraction=0.1" in str(error.value)
    assert f"--{where}=None" in str(error.value)
    wrong["data"]["val_fraction"] = 0.25
    assert vitjax.build(wrong).data.num_examples("val") == 2


CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = [
    path.relative_to(CONFIGS).with_suffix("").as_posix()
    for folder in ("folder", "transfer")
    for path in sorted((CONFIGS / folder).glob("*.py"))
    if path.stem != "linear_probe"  # of digits
]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("splits", [[""], ["train"], ["train", "val"], ["train", "test"]])
def test_configs_for_folders_have_the_splits_that_they_need(photos, name, splits):
    made = vitjax.config.load(name)
    made.data.path = photos(*(f"./{split}/{c}:5" for split in splits for c in ("cat", "dog")))
    data = vitjax.data.create(seed=0, **made.data.to_dict())
    best = made.get("checkpoint", {}).get("best")
    assert "train" in data.splits
    assert best is None or best.split("/")[0] in data.splits


def test_images_of_episodes_are_compared_too(photos, tmp_path):
    path = photos("train/a:3", "train/b:3", "test/c:3", "test/d:3")
    copy = Path(path, "test", "c", "1.png")
    copy.write_bytes(Path(path, "train", "b", "2.png").read_bytes())
    made = config(path=path, classes="all", episodes={"ways": 2, "shots": 1, "queries": 1})
    made["data"] |= {"train_transforms": None, "eval_batch_size": 8}
    made["data"]["episodes"]["class_split"] = {"train": ["a", "b"], "test": ["c", "d"]}
    made["model"], made["objective"] = {"name": "conv4", "filters": 4}, {"name": "protonet"}
    experiment = vitjax.build(made)
    assert "split again by class" in experiment.data.notes[-1]
    said = inspected(experiment, tmp_path / "x.png")
    expected = f"1 examples of test are in train as well, byte for byte: {copy} = "
    assert any(line.startswith(f"warning: {expected}") for line in said)
