"""Figures of segmentation have the expected contents for all sizes and numbers of classes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vitjax import figures

RNG = np.random.default_rng(0)


def drawn(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def row(height, width, classes, channels=1):
    image = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    truth, predicted = RNG.integers(0, classes, (2, height, width))
    return image, truth, predicted


def near(pixels, color) -> np.ndarray:
    return np.abs(pixels - np.asarray(color)).max(axis=-1) < 20


def test_a_row_is_image_truth_prediction_and_errors(tmp_path, words):
    image, truth, predicted = row(40, 40, 2)
    truth[:10] = -1
    truth[10:], predicted[:] = 1, 1
    predicted[30:] = 0
    path = figures.segmentations(
        [(image, truth, predicted)], ["val 3: IoU 60.0%"], ("hole", "cell"), tmp_path / "a.png"
    )
    assert words == [
        "val 3: IoU 60.0%", "truth", "prediction", "wrong",
        "■", "hole", "■", "cell", "■", "does not count", "■", "wrong",
    ]  # fmt: skip
    pixels = drawn(path)
    # The squares of 2.3 inches at 120 dots an inch; the legend's are below.
    truth, prediction, wrong = (pixels[48:324, 12 + 288 * c : 288 + 288 * c] for c in range(1, 4))
    grey, red = (128, 128, 128), (200, 30, 30)
    assert near(truth, grey).mean() == pytest.approx(0.25, abs=0.01)
    # What is predicted where pixels do not count is no result.
    assert near(prediction, grey).mean() == pytest.approx(0.25, abs=0.01)
    assert near(wrong, grey).mean() == near(truth, grey).mean()
    assert near(wrong, red).mean() == pytest.approx(0.25, abs=0.01)


def test_figures_of_wide_images_are_low(tmp_path):
    wide, high = (
        figures.segmentations([row(*size, 3, 3)] * 2, ["", ""], "abc", tmp_path / f"{size}.png")
        for size in ((20, 80), (80, 20))
    )
    assert drawn(wide).shape[0] < 0.5 * drawn(high).shape[0]


@pytest.mark.parametrize("count", [2, 20, 43])
def test_a_legend_of_many_classes(tmp_path, words, count):
    names = [f"class {c}" for c in range(count)]
    figures.segmentations([row(16, 16, count)], ["one"], names, tmp_path / "a.png")
    assert [name for name in names if name in words] == names[:20]
    more = [word for word in words if word.startswith("and ")]
    assert more == ([f"and {count - 20} more"] if count > 20 else [])
    words.clear()
    records = [
        {"split": "val", "step": step, **{f"iou_{c}": c / count for c in range(count)}}
        for step in (5, 10)
    ]
    path = figures.class_curves(records, names, tmp_path / "b.png")
    assert {f"class {c}: {100 * c / count:.2f}%" for c in range(count)} <= set(words)
    assert drawn(path).shape[0] == 480


def test_nothing_to_draw(tmp_path, words):
    figures.segmentations([], [], ("a", "b"), tmp_path / "a.png")
    records = [{"split": "val", "step": 1, "iou_0": float("nan")}, {"split": "train", "step": 1}]
    figures.class_curves(records, ("a", "b"), tmp_path / "b.png")
    assert words == ["No example was evaluated", "Nothing has been evaluated yet"]


@pytest.mark.parametrize("count", [2, 21, 256])
def test_colours_differ_and_an_overlay_has_both(count):
    palette = figures.palette(count)
    assert palette.shape == (count, 3)
    assert len(np.unique(palette, axis=0)) == count
    # Longer than what is worked on at once, and of one channel or three.
    for channels in (1, 3):
        image, mask, _ = row(600, 7, count, channels)
        mask[0] = -1
        found = figures.overlay(image, mask, count)
        colors = np.where(mask[..., None] == -1, 128, palette[mask])
        np.testing.assert_allclose(found, 0.6 * image + 0.4 * colors, atol=0.51)
        floats = figures.overlay((image / 255).astype(np.float32), mask, count)
        np.testing.assert_array_equal(floats, found)


@pytest.mark.parametrize(
    ("colors", "ignored"),
    [
        ([(0, 0, 0), (255, 255, 255)], (128, 128, 128)),
        ([(128, 128, 128), (0, 0, 0)], (255, 255, 255)),
        ([(110, 150, 120), (255, 250, 240)], (255, 0, 255)),
    ],
)
def test_ignored_pixels_have_a_colour_of_no_class(tmp_path, colors, ignored):
    own = np.asarray(colors, np.uint8)
    mask = np.array([[0, 1, -1]])
    np.testing.assert_array_equal(figures.colored(mask, 2, own), [[*colors, ignored]])
    image = np.zeros((1, 3, 3), np.uint8)
    path = figures.segmentations([(image, mask, abs(mask))], ["a"], "ab", tmp_path / "a.png", own)
    assert path.is_file()
