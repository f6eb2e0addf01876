"""No name and no number ends a run: every figure is drawn whatever the text and the values."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vitjax import figures
from vitjax.figures import _curves

# Surrogates of undecodable file names, control characters, formulas, scripts without glyphs.
ALPHABET = st.one_of(
    st.characters(),
    st.sampled_from(["\udcff", "\ud800", "\n", "\t", "\x00", "$", "\\", "_", "^", "{"]),
)
TEXTS = st.text(ALPHABET, max_size=30)
VALUES = st.one_of(
    st.floats(), st.sampled_from([float("nan"), float("inf"), 1e308, -1e308, 5e-324, 0.0])
)
# Without shrinking, which would draw hundreds of figures for one failure.
GENERATE = [hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate]
examples = hypothesis.settings(max_examples=8, phases=GENERATE)


def names(count):
    return st.lists(TEXTS, min_size=count, max_size=count)


def drawn(function, *arguments, **keywords):
    """Whether ``function`` writes an image; warnings are errors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        function(*arguments, path=path, **keywords)
        with Image.open(path) as image:
            image.load()
            return image.format == "PNG"


@examples
@hypothesis.given(names(3))
def test_confusion_matrix(text):
    assert drawn(figures.confusion_matrix, np.eye(3), text)


@hypothesis.settings(max_examples=2, phases=GENERATE)
@hypothesis.given(names(21))
def test_confusion_matrix_with_a_list(text):
    assert drawn(figures.confusion_matrix, np.ones((21, 21), int), text)


@examples
@hypothesis.given(names(3), st.lists(VALUES, min_size=2, max_size=2))
def test_mistakes(text, confidences):
    images = np.zeros((2, 4, 4), np.uint8)
    assert drawn(figures.mistakes, images, [0, 1], [1, 2], confidences, text)


@examples
@hypothesis.given(
    names(2),
    hnp.arrays(
        st.sampled_from(["float32", "float64", "int64", "uint16", "bool"]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=4),
    ),
)
def test_image_grid(text, image):
    assert drawn(figures.image_grid, [image, image], text)


@hypothesis.given(hnp.arrays(np.float64, (2, 3), elements=VALUES))
def test_pixels_of_any_floats(image):
    found = figures.pixels(image)
    assert found.dtype == np.uint8
    order = np.argsort(np.nan_to_num(image, nan=-np.inf), axis=None)
    assert np.all(np.diff(found.ravel()[order].astype(int)) >= 0)


@examples
@hypothesis.given(names(1), names(6), st.lists(VALUES, min_size=6, max_size=6))
def test_predictions(titles, classes, probabilities):
    images = np.zeros((1, 4, 4), np.uint8)
    assert drawn(figures.predictions, images, titles, [probabilities], classes)


class Declared:
    higher_is_better = True

    def __init__(self, unit):
        self.unit = unit


@hypothesis.settings(max_examples=8, phases=GENERATE)
@hypothesis.given(
    TEXTS.filter(lambda name: name not in ("step", "split")),
    TEXTS,
    st.lists(VALUES, min_size=1, max_size=4),
    st.sampled_from(["", "fraction", "$x$"]),
)
def test_curves(name, split, values, unit):
    records = [
        {"step": step, "split": split, name: value, "loss": value, "learning_rate": value}
        for step, value in enumerate(values)
    ]
    assert drawn(figures.curves, records, declarations={name: Declared(unit)})


@examples
@hypothesis.given(names(2), st.lists(VALUES, min_size=2, max_size=2))
def test_class_curves(classes, values):
    records = [
        {"step": step, "split": "val", "iou_per_class": [value, None]}
        for step, value in enumerate(values)
    ]
    assert drawn(figures.class_curves, records, classes)


@examples
@hypothesis.given(
    names(4), st.lists(VALUES, min_size=2, max_size=2), st.lists(VALUES, min_size=2, max_size=2)
)
def test_adaptation(text, means, widths):
    mode, other, what, heading = text
    modes = {mode: (means, widths), f"{other}2": (means[::-1], widths)}
    for fraction in (False, True):
        assert drawn(
            figures.adaptation, modes, what=what, fraction=fraction, chance=0.2, heading=heading
        )


@examples
@hypothesis.given(names(2), TEXTS)
def test_episode(classes, heading):
    part = (np.zeros((2, 4, 4), np.float32), np.array([0, 1]))
    assert drawn(figures.episode, part, part, classes, after=np.array([1, 1]), heading=heading)


@examples
@hypothesis.given(names(1), hnp.arrays(np.float64, (1, 5), elements=VALUES))
def test_fits(titles, predicted):
    x = np.linspace(-1, 1, 5)
    support = (np.zeros((1, 1)), np.full((1, 1), np.nan))
    assert drawn(
        figures.fits, support, (x, x[None]), predicted={0: predicted, 1: x[None]}, titles=titles
    )


@examples
@hypothesis.given(names(3), VALUES)
def test_probes(text, accuracy):
    network, kind, heading = text
    lines = {network: {kind: [(0.0, accuracy, None), (1.0, 0.5, abs(accuracy))]}}
    assert drawn(figures.probes, lines, chance=0.1, heading=heading)


@examples
@hypothesis.given(
    names(1), names(2), hnp.arrays(np.float32, (4, 6, 1), elements=st.floats(width=32))
)
def test_segmentations(titles, classes, image):
    mask = np.array([[-1, 0, 1, 0, 1, 0]] * 4)
    assert drawn(figures.segmentations, [(image, mask, abs(mask))], titles, classes)


def test_of_very_many_records_the_points_that_a_figure_names_stay(monkeypatch):
    monkeypatch.setattr(_curves, "_MOST_POINTS", 400)
    monkeypatch.setattr(_curves, "_MOST_SERIES", 4)

    def records():
        for step in range(1, 10_001):
            loss = {7_001: math.nan, 3_333: 90.0, 4_445: -5.0}.get(step, 1 / step)
            yield {"step": step, "split": "train", "loss": loss}
            if step % 1000 == 0:
                yield {"step": step, "split": "val", "loss": step}
        for number in range(50):
            yield {"step": 1, "split": f"split {number}", "loss": 1.0}

    series = _curves.read_series(records())
    assert len(series) == 4
    steps, values = series["loss", "train"]
    assert 100 < len(steps) <= 400
    assert {3_333, 4_445, 7_001, 10_000} <= set(steps.tolist())
    assert (np.nanmax(values), np.nanmin(values), values[-1]) == (90.0, -5.0, 1e-4)
    assert series["loss", "val"][0].tolist() == list(range(1000, 10_001, 1000))
