"""A run is evaluated and resumed with its classes, which are matched by name."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.cli import main
from vitjax.core.errors import ConfigError

COLORS = {
    "daisy": (200, 200, 200),
    "lily": (60, 200, 60),
    "poppy": (200, 60, 60),
    "rose": (60, 60, 200),
    "tulip": (60, 60, 60),
}


def photos(root, names, count=8, seed=0):
    """A folder of images whose colour tells the class; ``names``: folder -> the class it shows."""
    generator = np.random.default_rng(seed)
    for name, shown in names.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.array(COLORS[shown]) + generator.integers(-40, 40, (4, 4, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(root / name / f"{name}_{number}.png")
    return root


def flowers(names):
    return {name: name for name in names}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("flowers")
    photos(root / "photos", flowers(COLORS))
    config = {
        "model": {"name": "mlp_omniglot", "hidden": (16,)},
        "data": {
            "source": "folder",
            "path": str(root / "photos"),
            "batch_size": 8,
            "val_fraction": 0.2,
            "test_fraction": 0.2,
            "mean": (0.5,) * 3,
            "std": (0.3,) * 3,
        },
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "train": {"steps": 100},
        "parallel": {"devices": 1},
    }
    vitjax.train(config, root / "run", say=lambda text: None)
    return root / "run"


def predictions(folder, stem):
    with open(folder / f"{stem}_predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def evaluated(run, path, output, **options):
    said = []
    found = vitjax.evaluate(
        run, "train", [f"--config.data.path={path}"], output=output, say=said.append, **options
    )
    (record,) = output.glob("*.json")
    return found, json.loads(record.read_text()), said, predictions(output, record.stem)


def right(rows):
    return np.mean([row["label"] == row["prediction"] for row in rows])


def test_a_renamed_class_is_refused_with_both_sides(run, tmp_path, capsys):
    other = photos(tmp_path / "other", {**flowers(list(COLORS)[1:]), "zinnia": "daisy"})
    arguments = ["evaluate", f"--workdir={run}", f"--config.data.path={other}"]
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert "the run does not have 'zinnia'" in errors
    assert "the data does not have 'daisy'" in errors
    assert not (run / "evaluation").exists()


def test_classes_in_a_subset_are_mapped_by_name(run, tmp_path):
    # By position, all of them would be wrong.
    part = photos(tmp_path / "part", flowers(("poppy", "rose", "tulip")), seed=1)
    found, record, said, rows = evaluated(run, part, tmp_path / "out")
    assert any("3 of the run's 5 classes ('poppy', 'rose', 'tulip')" in line for line in said)
    assert record["missing_classes"] == ["daisy", "lily"]
    assert {row["label"] for row in rows} == {"poppy", "rose", "tulip"}
    # The label is the folder of the file, whatever the numbers are.
    for row in rows:
        assert row["file"].startswith(f"{part}/{row['label']}/{row['label']}_")
    assert found["accuracy"] == pytest.approx(right(rows))
    assert found["accuracy"] > 0.8
    support = {row["class"]: row["support"] for row in record["per_class"]}
    assert support["daisy"] == support["lily"] == 0
    assert support["rose"] == sum(row["label"] == "rose" for row in rows) > 0


def test_what_was_understood_of_other_data_is_said(run, tmp_path):
    said = []
    vitjax.evaluate(run, "test", say=said.append)
    assert not any("held out" in line for line in said)
    part = photos(tmp_path / "part", flowers(("poppy", "rose")), seed=1)
    path = f"--config.data.path={part}"
    tenth = vitjax.evaluate(run, "test", [path], say=said.append)
    assert tenth["examples"] == 3
    assert "2 classes: poppy, rose" in said
    assert "test: 3 of 16 examples are held out of train" in said
    (line,) = [line for line in said if "--config.data.splits.test=." in line]
    assert line.startswith(f"test is a part of {part}:")
    all_of_it = [path, "--config.data.splits.test=."]
    said.clear()
    found = vitjax.evaluate(run, "test", all_of_it, say=said.append)
    assert found["examples"] == 16
    assert f"test = {part} (16 images)" in said


@pytest.mark.parametrize("renamed", [True, False])
def test_other_classes_are_not_resumed_with(run, tmp_path, capsys, renamed):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    names = flowers(list(COLORS)[1:])
    other = photos(tmp_path / "other", {**names, "zinnia": "daisy"} if renamed else names)
    before = {path: path.read_bytes() for path in workdir.glob("*.json")}
    arguments = [f"--workdir={workdir}", f"--config.data.path={other}", "--config.train.steps=101"]
    assert main(["train", *arguments]) == 2
    errors = capsys.readouterr().err
    assert "Nothing was overwritten" in errors
    assert "the data does not have 'daisy'" in errors
    assert {path: path.read_bytes() for path in workdir.glob("*.json")} == before


def test_an_experiment_of_other_classes_is_not_trained_in_the_folder(run, tmp_path):
    from vitjax.training import experiment, loop, runs

    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    config = runs.read_config(workdir, say=lambda text: None)
    config.data.path = str(photos(tmp_path / "o", {**flowers(list(COLORS)[1:]), "zin": "daisy"}))
    with pytest.raises(ConfigError, match="the run does not have 'zin'"):
        loop.train(experiment.build(config), workdir, say=lambda text: None)


def test_other_outputs_are_explained(run, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    (workdir / "data.json").unlink()
    more = photos(tmp_path / "more", {f"flower {n:02}": "daisy" for n in range(17)}, count=1)
    # Held out examples would leave classes without any.
    none = [f"--config.data.{split}_fraction=0.0" for split in ("val", "test")]
    arguments = [f"--workdir={workdir}", f"--config.data.path={more}", *none]
    assert main(["evaluate", "--split=train", *arguments]) == 2
    assert "the data has 17 classes, the run 5" in capsys.readouterr().err
    assert main(["train", *arguments]) == 2
    errors = capsys.readouterr().err
    assert "the data has 17 classes, the run 5. Nothing was overwritten" in errors


def test_classes_in_another_order_give_the_same_numbers(run, tmp_path):
    arrays = {"class_names": np.array(list(COLORS)[::-1])}
    generator = np.random.default_rng(3)
    labels = np.arange(20) % 5
    colors = np.array(list(COLORS.values())[::-1])[labels]
    noise = generator.integers(-40, 40, (20, 4, 4, 3))
    images = np.clip(colors[:, None, None] + noise, 0, 255).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, **arrays)
    order = {"class_names": np.array(list(COLORS))}
    np.savez(tmp_path / "b.npz", x_train=images, y_train=4 - labels, **order)
    found, said = [], []
    for name in ("a", "b"):
        keys = ["source=npz", f"path={tmp_path / name}.npz"]
        keys += ["val_fraction=None", "test_fraction=None"]
        config = [f"--config.data.{key}" for key in keys]
        found.append(vitjax.evaluate(run, "train", config, say=said.append))
    assert found[0] == found[1]
    assert found[0]["accuracy"] > 0.8
    assert sum("in another order" in line for line in said) == 1


def test_the_files_of_an_evaluation(run, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    assert main(["evaluate", f"--workdir={workdir}", "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    folder = workdir / "evaluation"
    assert json.loads((folder / "test.json").read_text()) == {**record, "files": record_files()}
    summary = json.loads((workdir / "summary.json").read_text())
    assert record["results"] == pytest.approx(summary["test"])
    assert (record["split"], record["checkpoint_step"]) == ("test", 100)
    assert record["changes"] == {}
    rows = predictions(folder, "test")
    assert len(rows) == record["results"]["examples"]
    assert right(rows) == pytest.approx(record["results"]["accuracy"])
    # Precision and recall from the rows, by their definitions.
    for each in record["per_class"]:
        of_class = [row for row in rows if row["label"] == each["class"]]
        predicted = [row for row in rows if row["prediction"] == each["class"]]
        assert each["support"] == len(of_class)
        assert each["recall"] == pytest.approx(right(of_class))
        if predicted:
            assert each["precision"] == pytest.approx(right(predicted))
    with open(folder / "test_confusion_matrix.csv", newline="") as file:
        head, *matrix = csv.reader(file)
    assert head == ["true class", *COLORS]
    assert sum(int(cell) for row in matrix for cell in row[1:]) == len(rows)


def record_files():
    return {key: f"test_{key}.csv" for key in ("per_class", "confusion_matrix", "predictions")}


def test_other_evaluations_have_files_of_their_own(run, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    part = photos(tmp_path / "part", flowers(("poppy", "rose")), seed=1)
    for more in (
        [],
        ["--split=val"],
        ["--checkpoint=100"],
        ["--config.parallel.devices=2"],
        [f"--config.data.path={part}"],
    ):
        assert main(["evaluate", f"--workdir={workdir}", *more]) == 0
    found = {path.name for path in (workdir / "evaluation").glob("*.json")}
    (own,) = found - {"test.json", "val.json", "test-100.json"}
    record = json.loads((workdir / "evaluation" / own).read_text())
    assert own.startswith("test-")
    assert record["changes"] == {"data.path": [str(run.parent / "photos"), str(part)]}
    assert record["config"]["data"]["path"] == str(part)
    capsys.readouterr()
    output = tmp_path / "elsewhere"
    assert main(["evaluate", f"--workdir={workdir}", f"--output={output}"]) == 0
    assert (output / "test.json").is_file()
    assert f"Written: {output / 'test.json'}" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_still_gives_results(run, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    (workdir / "evaluation").write_text("a file in the way")
    assert main(["evaluate", f"--workdir={workdir}"]) == 0
    printed = capsys.readouterr()
    assert "test: accuracy" in printed.out
    assert "warning: nothing is written" in printed.err


SHADES = (20, 120, 220)


def pairs(root, values, count=6):
    """Grey images of three shades, and masks that tell them by ``values``."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        classes = np.kron(generator.integers(0, 3, (2, 2)), np.ones((4, 4), int))
        image = np.array(SHADES)[classes] + generator.integers(-10, 10, (8, 8))
        for name, pixels in (("images", image), ("masks", np.array(values)[classes])):
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def masks_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    pairs(root / "data", (0, 1, 2))
    config = {
        "model": {"name": "unet", "filters": 4, "depth": 1, "norm": "batch"},
        "data": {
            "source": "masks",
            "path": str(root / "data"),
            "batch_size": 8,
            "val_fraction": 0.0,
            "class_names": ("dark", "grey", "light"),
        },
        "objective": {"name": "segmentation"},
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "train": {"steps": 40},
        "parallel": {"devices": 1},
    }
    vitjax.train(config, root / "run", say=lambda text: None)
    return root / "run"


def ious(run, output, *keys, path=None):
    """The IoU of each class, by its name."""
    overrides = [f"--config.data.{key}" for key in keys]
    overrides += [f"--config.data.path={path}"] if path else []
    found = vitjax.evaluate(run, "train", overrides, output=output, say=lambda text: None)
    (file,) = output.glob("*.json")
    record = json.loads(file.read_text())
    assert found["iou_per_class"] == pytest.approx(
        [np.nan if row["iou"] is None else row["iou"] for row in record["per_class"]], nan_ok=True
    )
    return {row["class"]: row["iou"] for row in record["per_class"]}


def test_classes_of_masks_are_matched_whatever_their_order_and_values(masks_run, tmp_path):
    own = ious(masks_run, tmp_path / "own")
    assert list(own) == ["dark", "grey", "light"]
    assert min(own.values()) > 0.5
    # Swapped values, by name and, for masks without names, by value.
    swapped = ("classes=(2,0,1)", "class_names=('light','dark','grey')")
    assert ious(masks_run, tmp_path / "swapped", *swapped) == own
    assert ious(masks_run, tmp_path / "unnamed", "classes=(2,0,1)", "class_names=None") == own
    # Other values of the same names.
    other = pairs(tmp_path / "other", (200, 0, 100))
    keys = ("classes=(0,100,200)", "class_names=('grey','light','dark')")
    assert ious(masks_run, tmp_path / "values", *keys, path=other) == own


def test_ignored_classes_of_masks_are_not_taken_for_others(masks_run, tmp_path):
    keys = ("ignore=0", "class_names=('grey','light')")
    found = ious(masks_run, tmp_path / "ignored", *keys)
    assert min(found["grey"], found["light"]) > 0.5


def test_other_names_of_masks_are_refused(masks_run, capsys):
    names = "--config.data.class_names=('dark','grey','bright')"
    assert main(["evaluate", f"--workdir={masks_run}", "--split=train", names]) == 2
    errors = capsys.readouterr().err
    assert "the run does not have 'bright'; did you mean 'light'" in errors
    assert "config.data.class_names gives the classes" in errors


def test_other_values_of_masks_are_refused_or_said(masks_run, tmp_path, capsys):
    arguments = ["evaluate", f"--workdir={masks_run}", "--split=train"]
    assert main([*arguments, "--config.data.classes=(1,0,2)"]) == 2
    errors = capsys.readouterr().err
    assert "the run has 3 classes ('dark' is 0, 'grey' is 1, 'light' is 2)" in errors
    assert "the data has 3 classes ('dark' is 1, 'grey' is 0, 'light' is 2)" in errors
    other = pairs(tmp_path / "other", (0, 100, 255))
    assert main([*arguments, f"--config.data.path={other}"]) == 0
    assert "class 'light' is 2 in the run's masks, 255 here" in capsys.readouterr().out


def test_the_names_of_a_run_are_kept_where_values_are_matched(masks_run, tmp_path, capsys):
    arguments = ["evaluate", f"--workdir={masks_run}", "--split=train", f"--output={tmp_path}"]
    assert main([*arguments, "--config.data.class_names=None"]) == 0
    assert "by the values of masks ('0' is the run's 'dark'" in capsys.readouterr().out
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert record["class_names"] == ["dark", "grey", "light"]


def test_numbers_of_each_image(masks_run, tmp_path):
    vitjax.evaluate(masks_run, "train", output=tmp_path, say=lambda text: None)
    with open(tmp_path / "train_per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"].rsplit("/", 1)[1] for row in rows] == [f"{n}.png" for n in range(6)]
    for row in rows:
        each = [float(row[f"iou of {n}"]) for n in ("dark", "grey", "light") if row[f"iou of {n}"]]
        assert float(row["iou"]) == pytest.approx(np.mean(each))
        assert 0 <= float(row["accuracy"]) <= 1
