"""What evaluations report of classes and examples: numbers, files, printed lines and titles."""

import json
import types

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from vitjax import figures
from vitjax.figures import _canvas
from vitjax.metrics import ClassScores, Declaration
from vitjax.tasks import classification, segmentation
from vitjax.tasks.tables import short_name
from vitjax.training import evaluation_files
from vitjax.training.compatibility import other_outputs
from vitjax.training.task import Table, Task


def labelled(count=200, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes - 1, count)  # the last class has no example
    guesses = np.where(generator.random(count) < 0.6, labels, generator.integers(0, classes, count))
    return labels, guesses


def test_scores_of_classes_are_those_of_scikit_learn():
    labels, guesses = labelled()
    expected = precision_recall_fscore_support(
        labels, guesses, labels=range(4), zero_division=np.nan
    )
    right = np.bincount(labels[labels == guesses], minlength=4)
    counts = [np.bincount(each, minlength=4) for each in (guesses, labels)]
    scores = ClassScores.of(right, *counts)
    for found, wanted in zip(scores[:2], expected, strict=False):
        np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(scores.f1[:3], expected[2][:3])
    np.testing.assert_array_equal(scores.support, expected[3])


def test_tables_of_a_classification():
    labels, guesses = np.array([0, 0, 1]), np.array([0, 1, 1])
    names = ("a", "b", "c")
    table = classification._per_class(names, labels, guesses)
    assert table.columns == ("class", "precision", "recall", "f1", "support", "predicted")
    assert table.rows[:2] == [("a", 1.0, 0.5, 2 / 3, 2, 1), ("b", 0.5, 1.0, 2 / 3, 1, 2)]
    assert np.isnan(table.rows[2][1:4]).all()
    matrix = classification._confusions(names, labels, guesses)
    assert matrix.rows == [("a", 1, 1, 0), ("b", 0, 1, 0), ("c", 0, 0, 0)]
    many = tuple(map(str, range(1001)))
    assert sorted(classification._confusions(many, labels, guesses).rows) == [
        ("0", "0", 1), ("0", "1", 1), ("1", "1", 1)
    ]  # fmt: skip


def test_tables_of_a_segmentation():
    # Two images of four pixels; the second has no pixel of class 2, in truth or prediction.
    truth = np.array([[2, 1, 1], [3, 1, 0]])
    predicted = np.array([[1, 2, 1], [4, 0, 0]])
    both = np.array([[1, 1, 1], [3, 0, 0]])
    classes = segmentation._per_class(("a", "b", "c"), both, predicted, truth)
    assert classes.rows[0] == ("a", 4 / 6, 8 / 10, 4 / 5, 4 / 5, 5, 5)
    images = segmentation._per_image(("a", "b", "c"), ("x", "y"), both, predicted, truth)
    assert images.rows[0] == ("x", 3 / 4, pytest.approx((1 / 2 + 1 / 2 + 1) / 3), 0.5, 0.5, 1.0)
    assert images.rows[1][:5] == ("y", 3 / 4, pytest.approx((3 / 4 + 0) / 2), 0.75, 0.0)
    assert np.isnan(images.rows[1][5])


@pytest.mark.parametrize(("images", "worst", "best"), [(1, 1, 0), (2, 1, 1), (5, 3, 2), (9, 3, 3)])
def test_no_image_is_among_the_worst_and_the_best(images, worst, best):
    ious = np.random.default_rng(0).permutation(images) / images
    found = segmentation.Segmentation.extremes(ious)
    assert (len(found["worst"]), len(found["best"])) == (worst, best)
    assert not set(found["worst"]) & set(found["best"])
    assert ious[found["worst"][0]] == ious.min()
    if best:
        assert ious[found["best"][0]] == ious.max()
    # Images of which no pixel counts are left out.
    with_void = segmentation.Segmentation.extremes(np.append(ious, np.nan))
    for name, places in found.items():
        np.testing.assert_array_equal(with_void[name], places)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("/data/val/cat/7.png", "7.png"),
        ("a/b.tif, page 3", "b.tif, page 3"),
        ("digits[3]", "digits[3]"),
        ("", ""),
    ],
)
def test_images_are_titled_by_file(name, short):
    assert short_name(name) == short


def test_mistakes_are_titled_by_file(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        _canvas, "write", lambda figure, left, above, text, **style: titles.append(text)
    )
    figures.mistakes(
        np.zeros((2, 4, 4, 1)), [0, 1], [1, 0], [0.9, 0.8], ("cat", "dog"), tmp_path / "a.png",
        files=("7.png", "x\udce9.png"),
    )  # fmt: skip
    assert titles[0].startswith("7.png\ncat")
    assert titles[1].startswith("x\N{REPLACEMENT CHARACTER}.png\ndog")


def test_lines_per_class_carry_names():
    declared = {"iou_per_class": Declaration(True, "fraction", (3,), per_class=True)}
    experiment = types.SimpleNamespace(declarations=declared, final_declarations={})
    task = object.__new__(Task)
    task.experiment = experiment
    task.data = types.SimpleNamespace(class_names=("sky", "road", "car"))
    lines = task.describe({"iou_per_class": [0.5, float("nan"), 0.25]})
    assert lines[1] == "iou_per_class: sky 50.00%, road does not occur, car 25.00%"


def test_arrays_that_are_not_of_classes_are_lines_of_numbers():
    declared = {"accuracy_over_time": Declaration(True, "fraction", (2,))}
    task = object.__new__(Task)
    task.experiment = types.SimpleNamespace(declarations={}, final_declarations=declared)
    lines = task.describe({"loss": 0.5, "accuracy_over_time": [0.5, 0.75]})
    assert lines == ["loss 0.5000", "accuracy_over_time: 50.00%, 75.00%"]


def test_files_hold_odd_names_and_empty_cells(tmp_path):
    table = Table(("file", "iou"), [("caf\udce9\n.png", float("nan")), ("b,c", 0.5), ("d", None)])
    record = {"results": {"loss": float("inf")}}
    evaluation_files.write(tmp_path, "test", record, {"per_image": table})
    text = (tmp_path / "test_per_image.csv").read_text(encoding="utf-8")
    assert text == 'file,iou\n"caf\\udce9\n.png",\n"b,c",0.5\nd,\n'
    assert json.loads((tmp_path / "test.json").read_text()) == {
        "results": {"loss": None},
        "files": {"per_image": "test_per_image.csv"},
    }


TRAINED = {"data": {"path": "a", "workers": 2}, "parallel": {"devices": 1}, "objective": {"x": 1}}


@pytest.mark.parametrize(
    ("used", "changed"),
    [
        (TRAINED, {}),
        ({**TRAINED, "parallel": {"devices": 8}}, {}),
        ({**TRAINED, "data": {"path": "a"}}, {}),
        ({**TRAINED, "data": {"path": "b", "workers": 2}}, {"data.path": ["a", "b"]}),
        ({**TRAINED, "objective": {"x": 2}}, {"objective.x": [1, 2]}),
    ],
)
def test_what_changes_results_changes_the_names_of_files(used, changed):
    found = evaluation_files.changes(TRAINED, used)
    assert found == changed
    name = evaluation_files.stem("test", None, None, found)
    assert (name == "test") == (not changed)
    assert name == evaluation_files.stem("test", None, None, changed)


def test_each_kind_of_evaluation_has_its_own_name():
    changed = [{}, {"data.path": ["a", "b"]}, {"data.path": ["a", "c"]}]
    names = [
        evaluation_files.stem(split, checkpoint, ensemble, change)
        for split in ("val", "test")
        for checkpoint in (None, "last", 100)
        for ensemble in (None, 5)
        for change in changed
    ]
    assert len(set(names)) == len(names)


def tree(outputs, width=4, prefix=("params",)):
    found = {"head": {"kernel": np.zeros((width, outputs)), "bias": np.zeros(outputs)}}
    found["body"] = {"kernel": np.zeros((3, width))}
    for name in reversed(prefix):
        found = {name: found}
    return found


def test_other_outputs_are_told_from_other_models():
    pattern = "^head/"
    assert other_outputs(tree(5), tree(17), pattern) == (5, 17)
    inner = ("params", "model")
    assert other_outputs(tree(5, prefix=inner), tree(3, prefix=inner), pattern) == (5, 3)
    assert other_outputs(tree(5), tree(5), pattern) is None
    assert other_outputs(tree(5), tree(3, width=6), pattern) is None
    assert other_outputs(tree(5), {"params": {"body": np.zeros(3)}}, pattern) is None
