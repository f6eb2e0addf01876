"""The figures of few-shot learning are written and have the expected contents."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from vitjax import figures
from vitjax.figures import _episodes

RNG = np.random.default_rng(0)


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def size(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


def test_adaptation_has_a_line_and_a_band_for_each_mode_and_one_for_chance(tmp_path, drawn):
    modes = {"transductive": ([0.2, 0.9], [0.01, 0.02]), "inductive": ([0.2, 0.8], [0.01, 0.03])}
    path = figures.adaptation(
        modes, tmp_path / "a.png", what="accuracy", fraction=True, chance=0.2, heading="test"
    )
    assert min(size(path)) > 400
    (axes,) = drawn[0].axes
    assert [line.get_label() for line in axes.lines] == [
        "transductive: 90.00 ± 2.00%",
        "inductive: 80.00 ± 3.00%",
        "chance: 20%",
    ]
    assert len(axes.collections) == 2
    band = axes.collections[1].get_paths()[0].vertices
    assert {round(y) for x, y in band if x == 1} == {77, 83}


def test_modes_that_are_alike_are_one_line(tmp_path, drawn):
    same = ([3.0, 1.0], [0.1, np.nan])
    modes = {"transductive": same, "inductive": same}
    figures.adaptation(modes, tmp_path / "a.png", what="mean squared error", fraction=False)
    (line,) = drawn[0].axes[0].lines
    assert line.get_label() == "transductive and inductive: 1 ± 0"


def made(ways, shots, queries):
    labels = [np.repeat(np.arange(ways), count) for count in (shots, queries)]
    return [(RNG.integers(0, 256, (len(at), 8, 8, 1), dtype=np.uint8), at) for at in labels]


def images(figure):
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize(
    ("ways", "shown"), [(2, 2 * (1 + 6)), (5, 5 * (1 + 6)), (20, 20 * (1 + 4)), (30, 20 * (1 + 4))]
)
def test_an_episode_of_any_number_of_classes(tmp_path, drawn, ways, shown):
    support, query = made(ways, 1, 15)
    names = [f"Alphabet_of_the_Magi/character{c:02}" for c in range(ways)]
    guesses = np.zeros_like(query[1])
    path = figures.episode(
        support, query, names, tmp_path / "e.png", before=guesses, after=query[1], heading="An $x$"
    )
    width, height = size(path)
    assert 500 < width < 1700
    assert 200 < height < 1700
    assert len(images(drawn[0])) == shown
    said = words(drawn[0])
    assert {"Alphabet_of_the_Magi/", "character01", "support"} <= set(said)
    assert any("the first 20 of 30 classes" in word for word in said) == (ways == 30)


def test_a_query_says_what_it_was_taken_for_and_in_which_colour(tmp_path, drawn):
    support, query = made(2, 1, 1)
    figures.episode(
        support,
        query,
        ["cat", "dog"],
        tmp_path / "e.png",
        before=np.array([0, 0]),
        after=np.array([1, 1]),
    )
    frames = [
        axes.spines["left"].get_edgecolor()[:3]
        for axes in images(drawn[0])
        if axes.spines["left"].get_linewidth() == 2
    ]
    # The first query was a cat and became a dog, the second is one.
    assert [np.argmax(color) for color in frames] == [0, 1]
    colors = {_episodes._RIGHT: "right", _episodes._WRONG: "wrong"}
    said = [
        (text.get_text(), colors[text.get_color()])
        for text in drawn[0].texts
        if text.get_color() in colors
    ]
    assert said == [("1", "right"), ("2", "wrong"), ("1", "wrong"), ("2", "right")]


def test_an_episode_before_any_prediction_has_no_frames(tmp_path, drawn):
    support, query = made(3, 2, 2)
    figures.episode(support, query, ["a", "b", "c"], tmp_path / "e.png", heading="One")
    assert "→" not in words(drawn[0])
    assert len(images(drawn[0])) == 12


def test_fits_show_truth_points_and_every_number_of_steps(tmp_path, drawn):
    x = np.linspace(-5, 5, 50)
    truth = np.stack([np.sin(x), 2 * np.sin(x)])
    points = (np.array([[0.0, 1.0], [2.0, np.nan]]), np.array([[0.0, 1.0], [2.0, np.nan]]))
    path = figures.fits(
        points,
        (x, truth),
        tmp_path / "f.png",
        predicted={0: 0 * truth, 1: truth / 2, 10: truth},
        titles=["one", "two"],
    )
    width, height = size(path)
    assert width > 2 * height
    panels: list[Axes] = drawn[0].axes
    assert [axes.get_title() for axes in panels] == ["one", "two"]
    assert [line.get_label() for line in panels[1].lines] == [
        "truth",
        "before adaptation",
        "1 step",
        "10 steps",
    ]
    np.testing.assert_array_equal(panels[1].lines[2].get_ydata(), truth[1] / 2)
    assert len({line.get_color() for line in panels[0].lines}) == 4
