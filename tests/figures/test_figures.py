"""Every figure is a PNG file of a readable size with the expected text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vitjax import figures
from vitjax.figures import _canvas, _confusion, _curves
from vitjax.figures._pixels import shown_range

RNG = np.random.default_rng(0)


def size(path: Path) -> tuple[int, int]:
    assert sorted(path.parent.iterdir()) == [path], "a temporary file was left beside the figure"
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


class Declared(NamedTuple):
    higher_is_better: bool | None
    unit: str = ""


ACCURACY = {"accuracy": Declared(True, "fraction")}


def record(step: int, split: str = "train", **numbers) -> dict:
    return {"step": step, "split": split, **numbers}


# ------------------------------------------------------------------------------------------ curves


def test_curves_show_train_val_test_and_the_learning_rate(tmp_path, words):
    records = []
    for step in range(100, 1001, 100):
        records.append(record(step, loss=100 / step, accuracy=step / 2000, learning_rate=1e-3))
        records.append(record(step, "val", loss=110 / step, accuracy=step / 2500))
    records.append(record(1000, "test", loss=0.2, accuracy=0.375))
    path = figures.curves(records, tmp_path / "curves.png", ACCURACY)
    assert path == tmp_path / "curves.png"
    width, height = size(path)
    assert width > 1200
    assert height > 350
    assert {"loss", "accuracy (%)", "learning rate"} <= set(words)
    assert "train: 50.00%" in words
    assert "val: 40.00% (best 40.00%)" in words
    assert "val: 0.11 (best 0.11)" in words
    assert "test: 37.50%" in words


def test_curves_of_no_record_and_of_records_without_a_metric(tmp_path, words):
    size(figures.curves([], tmp_path / "none.png"))
    assert words == ["Nothing has been reported yet"]
    words.clear()
    records = [record(1), record(2, images_per_second=3.0), record(2, "val", examples=5)]
    figures.curves(records, tmp_path / "none.png")
    assert words == ["Nothing has been reported yet"]
    words.clear()
    figures.curves([record(1, "val", accuracy=1.0)], tmp_path / "none.png", {})
    assert words == ["Nothing has been reported yet"]


@pytest.mark.parametrize(
    "records",
    [
        [record(100, loss=1.0, accuracy=0.5, learning_rate=0.1)],
        [record(0, loss=0.0)],
        [record(10, "val", accuracy=1.0)],
        [record(s, loss=1e6 if s == 3 else 0.1, learning_rate=0.0) for s in range(9)],
        [record(s, loss=-1.0, mean_iou=0.0, accuracy_top5=1.0) for s in range(2)],
    ],
    ids=["one record", "step 0", "val alone", "a spike", "a negative loss"],
)
@pytest.mark.parametrize("declarations", [None, ACCURACY])
def test_curves_of_few_or_strange_records(tmp_path, records, declarations):
    if declarations and "loss" not in records[0] and "accuracy" not in records[0]:
        return
    assert min(size(figures.curves(records, tmp_path / "curves.png", declarations))) > 350


def test_curves_say_where_a_value_was_not_finite(tmp_path, words):
    values = [1.0, 0.9, float("nan"), None, float("inf"), 0.8]
    figures.curves([record(10 * s, loss=v) for s, v in enumerate(values)], tmp_path / "c.png")
    assert "not finite at step 20" in words
    assert "train: 0.8" in words
    words.clear()
    records = [record(5, loss=float("nan"), accuracy=None)]
    figures.curves(records, tmp_path / "c.png", ACCURACY)
    assert words.count("not finite at step 5") == 2


def test_curves_take_the_later_line_of_a_step_written_twice(tmp_path, words):
    records = [record(10, loss=5.0), record(20, loss=7.0), record(20, loss=3.0)]
    figures.curves(records, tmp_path / "c.png")
    assert "train: 3" in words
    assert "train: 7" not in words


def test_curves_read_unit_and_direction_from_the_declarations(tmp_path, words):
    records = [
        record(s, "val", fid=f, wit=f / 40, plain=f) for s, f in ((1, 8.0), (2, 4.0), (3, 6.0))
    ]
    declared = {
        "fid": Declared(False, "pixels"),
        "wit": Declared(True, "fraction"),
        "plain": Declared(None),
        "absent": Declared(True),
    }
    figures.curves(records, tmp_path / "c.png", declared)
    assert {"wit (%)", "fid (pixels)"} <= set(words)
    assert {"val: 15.00% (best 20.00%)", "val: 6 (best 4)"} <= set(words)
    assert not {"plain", "absent"} & set(words)


def test_curves_without_declarations_show_every_number_of_held_out_splits(tmp_path, words):
    records = [
        record(1, "val", mean_iou=0.5, mse=3.0, seconds=9.0, examples=100, accuracy_top5=0.9),
        record(2, "val", mean_iou=0.6, mse=2.0, seconds=9.0, examples=100, accuracy_top5=0.9),
        record(2, "train", gradient_norm=0.3),
    ]
    figures.curves(records, tmp_path / "c.png")
    assert {"mean iou", "mse", "accuracy top5"} <= set(words)
    assert not {"seconds", "examples", "gradient norm"} & set(words)


def test_curves_of_many_points_are_drawn_smoothed(tmp_path):
    records = [record(s, loss=1 + RNG.random(), learning_rate=0.1) for s in range(1, 20_001)]
    size(figures.curves(records, tmp_path / "curves.png"))


def test_smoothing_keeps_constants_and_gaps():
    values = np.full(200, 3.0)
    values[50] = np.nan
    smooth = _curves._smooth(values)
    assert np.isnan(smooth[50])
    np.testing.assert_allclose(np.delete(smooth, 50), 3.0)


def test_curves_reject_a_record_without_a_step(tmp_path):
    with pytest.raises(ValueError, match="without a step"):
        figures.curves([{"split": "train", "loss": 1.0}], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- confusion matrix


@pytest.mark.parametrize("num_classes", [1, 2, 10, 20, 21, 100, 1000])
def test_confusion_matrix_of_any_number_of_classes(tmp_path, num_classes, words):
    labels = np.repeat(np.arange(num_classes), 5)
    predicted = labels.copy()
    predicted[:3] = num_classes - 1
    names = [f"a class with a rather long name, number {c}" for c in range(num_classes)]
    counts = matrix(labels, predicted, num_classes)
    path = figures.confusion_matrix(counts, names, tmp_path / "confusion.png")
    assert min(size(path)) > 450
    right = 5 if num_classes == 1 else 5 * num_classes - 3
    total = 5 * num_classes
    assert f"{right:,} of {total:,} correct ({right / total:.2%})" in words
    assert ("most confused" in words) == (num_classes > 20)
    assert ("3 of 5" in words) == (num_classes > 20)
    # Cell texts, one for each cell that is not empty.
    assert words.count("5") == (num_classes - (num_classes > 1) if num_classes <= 20 else 0)
    assert sum("class with" in w or "…" in w for w in words) < 120


def matrix(labels, predictions, num_classes):
    return figures.count_confusions(np.array(labels), np.array(predictions), num_classes)


def test_confusion_matrix_counts_rows_as_truth(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(_confusion, "_write_counts", lambda axes, *cells: seen.append(cells))
    counts = matrix([0, 0, 0, 0, 1], [0, 1, 1, 1, 1], 3)
    np.testing.assert_array_equal(counts.toarray(), [[1, 3, 0], [0, 1, 0], [0, 0, 0]])
    for each in (counts, counts.toarray(), counts.toarray().tolist()):
        figures.confusion_matrix(each, ["cat", "dog", "cow"], tmp_path / "c.png")
        rows, columns, numbers, fractions = seen.pop()
        cells = list(zip(rows, columns, numbers, fractions, strict=True))
        assert cells == [(0, 0, 1, 0.25), (0, 1, 3, 0.75), (1, 1, 1, 1.0)]


def test_most_confused_are_the_largest_counts_of_wrong_cells(tmp_path, words):
    labels = np.array([5, 5, 5, 7, 7, 3, 9, 9, 9, 9])
    predicted = np.array([6, 6, 5, 8, 8, 4, 9, 9, 9, 9])
    names = [f"k{i}" for i in range(30)]
    figures.confusion_matrix(matrix(labels, predicted, 30), names, tmp_path / "c.png")
    pairs = [word for word in words if "→" in word]
    assert pairs == ["k5 → k6", "k7 → k8", "k3 → k4"]
    assert {"2 of 3", "2 of 2", "1 of 1"} <= set(words)


def test_confusion_matrix_of_too_many_classes_for_a_dense_matrix(tmp_path):
    labels = np.array([0, 21_840, 5])
    names = [str(c) for c in range(21_841)]
    counts = matrix(labels, labels, len(names))
    size(figures.confusion_matrix(counts, names, tmp_path / "c.png"))


def test_confusion_matrix_of_nothing(tmp_path, words):
    size(figures.confusion_matrix(matrix([], [], 1), ["cat"], tmp_path / "c.png"))
    assert words == ["No example was evaluated"]


def test_merged_cells_keep_the_largest():
    rows, columns = np.array([4, 0, 1]), np.array([0, 1, 0])
    merged = _confusion._merged(rows // 2, columns // 2, np.array([0.5, 0.25, 0.75]), 3)
    np.testing.assert_array_equal(merged, [[0.75, 0, 0], [0, 0, 0], [0.5, 0, 0]])


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0], "2 labels for 1 predictions"),
        ([0, 2], [0, 1], "labels range from 0 to 2; they must be in 0 to 1"),
        ([0, 1], [0, -1], "predictions range from -1 to 0"),
        ([0.0, 1.0], [0, 1], "labels are float64; class indices must be integers"),
    ],
)
def test_only_class_indices_are_counted(labels, predicted, message):
    with pytest.raises(ValueError, match=message):
        figures.count_confusions(labels, predicted, 2)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((2, 3)), r"counts of shape \(2, 3\) for 2 classes"),
        ([[1, -1], [0, 2]], "a count of -1"),
    ],
)
def test_confusion_matrix_rejects(tmp_path, counts, message):
    with pytest.raises(ValueError, match=message):
        figures.confusion_matrix(counts, ["cat", "dog"], tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ images


def test_mistakes_say_what_was_taken_for_what(tmp_path, words):
    images = RNG.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    path = figures.mistakes(
        images, [0, 1, 1], [1, 0, 2], [0.97, 0.8, 0.5], ["cat", "dog", "cow"], tmp_path / "m.png"
    )
    assert min(size(path)) > 200
    assert {"cat → dog 97%", "dog → cat 80%", "dog → cow 50%"} <= set(words)


def test_mistakes_with_long_names_take_two_lines(tmp_path, words):
    names = ["Egyptian mau", "tabby, tabby cat and other cats with stripes"]
    images = np.zeros((1, 32, 32, 3), np.uint8)
    figures.mistakes(images, [0], [1], [0.5], names, tmp_path / "m.png")
    assert "Egyptian mau\n→ tabby, tab…ripes 50%" in words


def test_many_mistakes_are_cut_short_and_it_says_so(tmp_path, words):
    images = np.zeros((50, 8, 8), np.uint8)
    figures.mistakes(images, [0] * 50, [1] * 50, [0.5] * 50, ["a", "b"], tmp_path / "m.png")
    assert words.count("a → b 50%") == 36
    assert "true class → prediction; the first 36 of 50" in words


def test_no_mistakes_are_a_figure_of_text(tmp_path, words):
    size(figures.mistakes([], [], [], [], ["cat"], tmp_path / "m.png"))
    assert words == ["No mistakes: every example was classified correctly"]


def test_mistakes_reject_unequal_lengths(tmp_path):
    with pytest.raises(ValueError, match="2 images, 1 labels, 1 predictions and 1 confidences"):
        figures.mistakes(np.zeros((2, 8, 8)), [0], [1], [0.5], ["a", "b"], tmp_path / "m.png")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 9, 2), (64, 32, 3), (300, 8, 5)])
@pytest.mark.parametrize("kind", ["uint8", "float32", "bfloat16", "bool"])
def test_image_grid_of_any_image(tmp_path, shape, kind):
    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
    images = np.full((3, *shape), 1, dtype)
    path = figures.image_grid(images, ["a", "b", "c$d$"], tmp_path / "deep" / "er" / "grid.png")
    assert min(size(path)) > 150


def test_pixels_are_what_they_were():
    grey = RNG.integers(0, 256, (4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(figures.pixels(grey), grey)
    np.testing.assert_array_equal(figures.pixels(grey[..., None]), grey)
    np.testing.assert_array_equal(figures.pixels(grey[..., None] / 255), grey)
    four = RNG.integers(0, 256, (4, 5, 4), dtype=np.uint8)
    np.testing.assert_array_equal(figures.pixels(four), four[..., :3])
    np.testing.assert_array_equal(figures.pixels(np.array([[-0.1, 1.2, np.nan]])), [[0, 255, 0]])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        # Within a half of [0, 1]: clipped. Beyond: scaled from the smallest value to the largest.
        ([[-0.4, 0.2, 1.4]], [[0, 51, 255]]),
        ([[-2.0, 0.0, 2.0]], [[0, 128, 255]]),
        ([[0.0, 51.0, 255.0]], [[0, 51, 255]]),
        ([[-np.inf, np.nan, 10.0, np.inf, 20.0]], [[0, 0, 0, 255, 255]]),
        ([[np.nan, np.inf, 0.2]], [[0, 255, 51]]),
        ([[7.0, 7.0]], [[0, 0]]),
        (np.array([[-1000, 0, 1000]], np.int16), [[0, 128, 255]]),
        (np.array([[True, False]]), [[255, 0]]),
        ([[-1e308, 1e308]], [[0, 255]]),
    ],
)
def test_values_outside_the_range_of_images_are_scaled(image, expected):
    np.testing.assert_array_equal(figures.pixels(np.array(image)), expected)
    assert shown_range(np.array(image))[0] <= shown_range(np.array(image))[1]


def test_image_grid_is_limited_and_says_so(tmp_path, words):
    size(figures.image_grid(np.zeros((100, 8, 8)), None, tmp_path / "grid.png"))
    assert words == ["the first 64 of 100"]
    words.clear()
    figures.image_grid([], [], tmp_path / "grid.png")
    assert words == ["No images"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(8), r"shape \(8,\) is not an image"),
        (np.zeros((0, 8, 3)), r"shape \(0, 8, 3\) is not an image"),
    ],
)
def test_image_grid_rejects_other_arrays(tmp_path, image, message):
    with pytest.raises(ValueError, match=message):
        figures.image_grid([image], None, tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_image_grid_rejects_another_number_of_titles(tmp_path):
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        figures.image_grid(np.zeros((2, 8, 8)), ["a"], tmp_path / "grid.png")


def test_predictions_show_the_five_most_probable_classes(tmp_path, words):
    images = [np.zeros((8, 8, 1), np.uint8), np.zeros((40, 300, 3), np.float32)]
    probabilities = [[0.05, 0.1, 0.4, 0.2, 0.15, 0.07, 0.03], [1, 0, 0, 0, 0, 0, 0]]
    names = [f"class {c}" for c in range(7)]
    path = figures.predictions(
        images, ["a.png", "b.png"], probabilities, names, tmp_path / "predictions.png"
    )
    assert min(size(path)) > 200
    assert {"a.png", "b.png", "40.0%", "20.0%", "15.0%", "10.0%", "7.0%", "100.0%"} <= set(words)
    assert not {"class 6", "5.0%", "3.0%"} & set(words)
    # Five bars of the first image, in order, and five of the second.
    assert [w for w in words if w.startswith("class")][:5] == [
        f"class {c}" for c in (2, 3, 4, 1, 5)
    ]


def test_predictions_of_two_classes_and_of_many_images(tmp_path, words):
    probabilities = np.full((30, 2), 0.5)
    path = figures.predictions(
        np.zeros((30, 8, 8)), [""] * 30, probabilities, ["cat", "dog"], tmp_path / "p.png"
    )
    assert min(size(path)) > 1000
    assert words.count("cat") == 24
    assert "the first 24 of 30" in words
    words.clear()
    figures.predictions([], [], np.zeros((0, 2)), ["cat", "dog"], tmp_path / "p.png")
    assert words == ["No images"]


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([[0.5, 0.5]], "their sizes must match"),
        ([[0.5], [0.5]], "their sizes must match"),
    ],
)
def test_predictions_reject(tmp_path, probabilities, message):
    with pytest.raises(ValueError, match=message):
        figures.predictions(
            np.zeros((2, 8, 8)), ["a", "b"], probabilities, ["cat", "dog"], tmp_path / "p.png"
        )
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------- writing


def test_a_failed_write_leaves_the_old_figure_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    figures.image_grid(np.zeros((1, 8, 8)), None, path)
    before = path.read_bytes()

    def half(figure, target, **keywords):
        Path(target).write_bytes(b"half a figure")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        figures.image_grid(np.ones((1, 8, 8)), None, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["grid.png"]


def test_a_figure_is_replaced(tmp_path):
    path = tmp_path / "grid.png"
    figures.image_grid(np.zeros((1, 8, 8)), None, path)
    before = path.read_bytes()
    figures.image_grid(np.ones((1, 8, 8)), None, path)
    assert path.read_bytes() != before
    size(path)


def test_names_in_any_script_and_with_dollars_warn_nobody(tmp_path, words):
    names = ["猫", "a$x$b", "two\nlines", r"\frac"]
    figures.confusion_matrix(np.eye(4), names, tmp_path / "c.png")
    assert {"猫", r"a\$x\$b", "two lines", r"\frac"} <= set(words)


def test_one_line_keeps_both_ends_of_a_long_name():
    assert _canvas.one_line("short", 5) == "short"
    assert _canvas.one_line("n01440764_tench_left", 10) == "n01440…eft"
    assert len(_canvas.one_line("x" * 99, 16)) == 16


# -------------------------------------------------------------------------------------------- time


def test_accuracy_over_time(tmp_path, words):
    path = figures.accuracy_over_time(
        [0.25, np.nan, 0.75], [0.0, 0.5, 0.9], tmp_path / "t.png", threshold=0.5
    )
    assert min(size(path)) > 400
    assert "accuracy (last step 75.00%)" in words
    assert "decided: entropy below 0.5 nats" in words
    size(figures.accuracy_over_time([1e308, 1.0], [0.0, np.inf], tmp_path / "t.png", threshold=1.0))
    size(figures.accuracy_over_time([np.nan], [0.0], tmp_path / "t.png", threshold=1.0))
    assert "No example was evaluated" in words
    with pytest.raises(ValueError, match=r"accuracies of shape \(2,\), decided \(1,\)"):
        figures.accuracy_over_time([0, 1], [0], tmp_path / "t.png", threshold=1.0)
