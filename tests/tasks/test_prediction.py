"""Predictions for files: read ahead in batches, skipped, written, and nothing else overwritten."""

import csv
import json
import os
import threading
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from vitjax.core.errors import ConfigError
from vitjax.data import DataError, ImageShapeError
from vitjax.tasks import reading
from vitjax.tasks.loaded import Loaded
from vitjax.tasks.output import CSV, FIGURE, JSON_LINES, OutputFolder, result_names
from vitjax.tasks.segmenting import UNTILED, Plan, PlannedImage, pictures_of
from vitjax.training import experiment as experiments

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def task():
    """The task of a classification of digits, and fresh variables."""
    built = experiments.build(
        ConfigDict(
            {
                "model": {"name": "resnet20", "stage_sizes": (1,), "width": 4},
                "data": {"source": "digits", "batch_size": 8},
                "optimizer": {"name": "sgd", "learning_rate": 0.1},
                "train": {"steps": 1},
            }
        )
    )
    return built.task, built.initial_variables()


@pytest.fixture
def files(tmp_path):
    """Seven images of digits' size, of which the fourth is damaged."""
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    paths[3].write_bytes(paths[3].read_bytes()[:50])
    return paths


def expected(task, variables, paths):
    images = np.stack([np.asarray(Image.open(path))[..., None] for path in paths])
    return np.asarray(task.objective.predict(variables, {"image": images}))


def probabilities(results, names):
    rows = [{p["class"]: p["probability"] for p in each["predictions"]} for each in results]
    return np.array([[row[name] for name in names] for row in rows])


def test_batches_of_one_size_are_compiled_once_and_give_each_image_its_own(task, files):
    task, variables = task
    del files[3]
    sizes = []
    objective = task.objective

    class Counted(type(objective)):
        def predict(self, variables, batch):
            sizes.append(batch["image"].shape)
            return super().predict(variables, batch)

    counted = object.__new__(type(task))
    counted.__dict__ = {**task.__dict__, "objective": object.__new__(Counted)}
    counted.objective.__dict__.update(objective.__dict__)
    results = list(counted.predict(variables, files, None, top=10, batch_size=4))
    assert sizes == [(4, 8, 8, 1)]  # traced once; six images are a batch and a padded one
    assert [each["image"] for each in results] == list(map(str, files))
    found = probabilities(results, task.class_names)
    np.testing.assert_allclose(found, expected(task, variables, files), atol=2e-6)


def test_an_unreadable_image_of_many_is_skipped_in_its_place(task, files):
    task, variables = task
    with pytest.raises(DataError, match=r"3\.png.*--on-corrupt=skip"):
        list(task.predict(variables, files, None, batch_size=2))
    results = list(task.predict(variables, files, None, batch_size=2, top=1, on_corrupt="skip"))
    assert [each["image"] for each in results] == list(map(str, files))
    assert ["error" in each for each in results] == [number == 3 for number in range(7)]
    assert "3.png" in results[3]["error"]
    assert all(len(each["predictions"]) == 1 for each in results if "error" not in each)
    files[0].with_suffix(".txt").write_text("no image")
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read:\n.*0\.txt"):
        task.check_prediction([files[0].with_suffix(".txt"), files[1]], {})


def test_skipping_is_recommended_for_one_file_of_several_alone(task, files):
    task, variables = task
    good, bad = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int64)
    for images in ([files[3]], [bad], [bad, good]):
        with pytest.raises(DataError) as raised:
            list(task.predict(variables, images, None))
        assert "on-corrupt" not in str(raised.value)
    files[3].write_bytes(b"no image")
    with pytest.raises(DataError) as raised:
        task.check_prediction([files[3]], {})
    assert "on-corrupt" not in str(raised.value)


def test_an_image_of_another_size_is_no_damage(task, files):
    task, variables = task
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(files[0])
    message = (
        r"0\.png: is of shape \(9, 7, 1\), and those of the run's data of \(8, 8, 1\)\."
        r" --config\.data\.eval_transforms='resize\(8\) \| center_crop\(8\)' brings"
    )
    for on_corrupt in ("error", "skip"):
        with pytest.raises(ImageShapeError, match=message) as raised:
            task.check_prediction(files[:2], {"on_corrupt": on_corrupt})
        assert "on-corrupt" not in str(raised.value)
        with pytest.raises(ImageShapeError, match=message):
            list(task.predict(variables, files[:2], None, on_corrupt=on_corrupt))


def test_augmentation_averages_an_image_and_its_mirror_image(task, files):
    task, variables = task
    path, turned = files[0], files[0].with_name("turned.png")
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(turned)
    (plain,) = task.predict(variables, [path], None, top=10, tta=True)
    (again,) = task.predict(variables, [turned], None, top=10, tta=True)
    mean = expected(task, variables, [path, turned]).mean(axis=0)
    for result in (plain, again):
        np.testing.assert_allclose(probabilities([result], task.class_names)[0], mean, atol=2e-6)


def test_few_images_are_in_memory_and_results_come_before_the_last_is_read(task):
    task, variables = task
    image = np.zeros((8, 8), np.uint8)
    read, lock = [], threading.Lock()
    original = task.data.read_image

    class Data(type(task.data)):
        def read_image(self, picture):
            with lock:
                read.append(picture)
            return original(picture)

    lazy = object.__new__(type(task))
    lazy.__dict__ = {**task.__dict__, "data": object.__new__(Data)}
    lazy.data.__dict__.update(task.data.__dict__)
    results = lazy.predict(variables, [image] * 1000, None, batch_size=4)
    next(results)
    assert len(read) < 100
    results.close()
    assert len(read) < 100
    assert not [t for t in threading.enumerate() if t.name.startswith("images")]


def test_bytes_among_floats_mean_the_same():
    bytes_, floats = np.full((2, 2, 1), 51, np.uint8), np.full((2, 2, 1), 0.2, np.float32)
    np.testing.assert_allclose(reading.stacked([bytes_, floats]), 0.2)
    assert reading.stacked([bytes_, bytes_]).dtype == np.uint8


def test_a_loaded_run_takes_paths_images_and_arrays_alike(task, files):
    task, variables = task
    run = Loaded(task.experiment, variables)
    model, own, preprocess = run
    assert run.class_names == preprocess.class_names == tuple("0123456789")
    with Image.open(files[0]) as opened:
        forms = [str(files[0]), files[0], opened.copy(), np.asarray(opened)]
    inputs = preprocess(*forms)
    assert inputs.shape == (4, 8, 8, 1)
    np.testing.assert_array_equal(inputs, inputs[:1].repeat(4, axis=0))
    likely = jax.nn.softmax(model.apply(own, inputs, train=False))
    results = run.predict(forms, top=10)
    assert [each["image"] for each in results] == [str(files[0])] * 2 + ["image 2", "image 3"]
    np.testing.assert_allclose(probabilities(results, run.class_names), likely, atol=2e-6)
    (single,) = run.predict(forms[3], top=1)
    assert single["predictions"] == results[0]["predictions"][:1]
    for arguments, message in (
        (([],), "no images are given"),
        ((forms[0], {"support": "s"}), "Classification does not adapt to new classes"),
        ((forms[0], {"tpo": 1}), "'tpo'; did you mean 'top'"),
        ((forms[0], {"top": 0}), "predict.top is 0; it must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            run.predict(arguments[0], **dict(*arguments[1:]))
    with pytest.raises(ConfigError, match="Classification does not adapt to new classes"):
        run.adapt("support")


@pytest.mark.parametrize(("largest", "ahead"), [(64, True), (UNTILED**2, True), (2000**2, False)])
def test_small_images_to_segment_are_read_ahead_and_large_ones_are_not(largest, ahead):
    read = {}

    def read_picture(picture, page):
        read[picture] = threading.current_thread()
        return picture

    data = types.SimpleNamespace(read_picture=read_picture)
    images = [PlannedImage(str(number), 0, "", str(number)) for number in range(50)]
    stems = [None if number == 3 else str(number) for number in range(50)]
    pictures = pictures_of(Plan(images, stems, {3: "damaged"}, 8, largest), data)
    assert next(pictures) == "0"
    deadline = time.monotonic() + 30
    while ahead and len(read) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # for a thread of a busy machine to begin
    assert (len(read) > 1) == ahead
    assert [next(pictures) for _ in range(4)] == ["1", "2", "4", "5"]
    assert len(read) < 49
    pictures.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("images")]
    assert {thread is threading.main_thread() for thread in read.values()} == {not ahead}


ROW = {"image": "a.png", "class": "x", "probability": 0.5}


def written(folder, results, **options):
    output = OutputFolder(folder, **options)
    with output.results(lambda result: result, errors=True) as write:
        for result in results:
            write(result)


def test_results_are_lines_of_json_and_rows(tmp_path):
    failed = {"image": "caf\udcff,\n.png", "error": "damaged"}
    written(tmp_path / "a" / "b", [failed, ROW])
    lines = (tmp_path / "a" / "b" / JSON_LINES).read_text().splitlines()
    spelled = {**failed, "image": "caf\\udcff,\n.png"}  # as in the CSV file
    assert [json.loads(line) for line in lines] == [spelled, ROW]
    with open(tmp_path / "a" / "b" / CSV, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [spelled["image"], "a.png"]
    assert [row["error"] for row in rows] == ["damaged", ""]
    assert [(row["class"], row["probability"]) for row in rows] == [("", ""), ("x", "0.5")]


def test_an_error_leaves_nothing_and_keeps_what_was_there(tmp_path):
    def fails():
        yield ROW
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "a" / "b", fails())
    assert not (tmp_path / "a").exists()
    written(tmp_path / "a", [ROW])
    before = (tmp_path / "a" / CSV).read_bytes()
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "a", fails())
    assert (tmp_path / "a" / CSV).read_bytes() == before
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_only_what_was_predicted_is_replaced(tmp_path):
    written(tmp_path, [ROW])
    written(tmp_path, [ROW, ROW])  # again
    assert len((tmp_path / CSV).read_text().splitlines()) == 3
    (tmp_path / CSV).write_text("corrected by hand")
    with pytest.raises(ConfigError, match=rf"{CSV}: the file exists already, and no"):
        written(tmp_path, [ROW])
    assert (tmp_path / CSV).read_text() == "corrected by hand"
    written(tmp_path, [ROW], overwrite=True)
    written(tmp_path, [ROW])
    # A folder, a broken link or a file of that name are all in the way.
    for number, make in enumerate((Path.mkdir, lambda p: p.symlink_to("gone"), Path.touch)):
        make(tmp_path / f"{number}.png")
        with pytest.raises(ConfigError, match=rf"{number}\.png: the file exists"):
            OutputFolder(tmp_path).check([f"{number}.png"])
    with pytest.raises(ConfigError, match="2 files exist"):
        OutputFolder(tmp_path).check(["0.png", "2.png", "3.png"])
    with pytest.raises(ConfigError, match="is a file; it must be a folder"):
        OutputFolder(tmp_path / CSV)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_cannot_be_written_is_found_early(tmp_path, monkeypatch, overwrite):
    deep = tmp_path / "a" / "b"
    OutputFolder(deep, overwrite=overwrite).check([CSV])
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/out cannot be made: \S+/file is a file"):
        OutputFolder(tmp_path / "file" / "out", overwrite=overwrite).check([CSV])
    denied = tmp_path
    access = os.access  # to which a test that runs as root has no limits
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied and access(path, mode))
    message = rf"{deep} cannot be made: {tmp_path} cannot be written"
    with pytest.raises(ConfigError, match=message):
        OutputFolder(deep, overwrite=overwrite).check([CSV])
    with pytest.raises(ConfigError, match=rf"output: {tmp_path} cannot be written \(permission"):
        OutputFolder(tmp_path, overwrite=overwrite).check([CSV])


def test_a_figure_of_one_s_own_is_not_replaced(task, files, tmp_path):
    task, variables = task
    (tmp_path / FIGURE).write_text("mine")
    with pytest.raises(ConfigError, match=FIGURE):
        list(task.predict(variables, files[:1], tmp_path))
    assert (tmp_path / FIGURE).read_text() == "mine"


def test_a_figure_that_cannot_be_drawn_loses_no_result(task, files, tmp_path, monkeypatch, caplog):
    task, variables = task

    def fails(*arguments, **keywords):
        raise ValueError("no ink")

    monkeypatch.setattr("vitjax.figures.predictions", fails)
    assert len(list(task.predict(variables, files[:2], tmp_path))) == 2
    assert not (tmp_path / FIGURE).exists()
    assert "predictions.png cannot be drawn: ValueError: no ink" in caplog.text


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.png", "b/y.png"], ["x", "y"]),
        (["a/x.png", "b/x.png", "b/y.png"], ["a/x", "b/x", "b/y"]),
        (["x.png", "again/x.tif"], ["x", "again/x"]),
        (["x.png", "x.tif"], ["x.png", "x.tif"]),
        (["a/x.png", "a/x.tif", "b/y.png"], ["a/x.png", "a/x.tif", "b/y.png"]),
        (["a²/1.png", "a2/1.png"], ["a²/1", "a2/1"]),
    ],
)
def test_no_two_images_have_results_of_one_name(paths, names):
    assert result_names([(path, "") for path in paths]) == names
    with pytest.raises(ConfigError, match="is given twice"):
        result_names([(path, "") for path in (*paths, paths[0])])


def test_pages_and_stems_that_look_like_pages_differ():
    images = [("s.tif", "_0"), ("s.tif", "_1"), ("s_1.png", "")]
    assert len(set(result_names(images))) == 3
