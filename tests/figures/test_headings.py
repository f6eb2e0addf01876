"""Headings are drawn completely, whatever the number of panels below them."""

import numpy as np
import pytest
from matplotlib.text import Text

from vitjax import figures
from vitjax.figures import _canvas as canvas

LONG = "block_4/after_mlp: images of test that excite each channel most, of $a_long_file_name.png$"
WORDS = [LONG, f"{'n01440764_tench' * 9}.png", "图像" * 40, LONG.upper() * 2]


def grid(path, heading):
    figures.image_grid(np.zeros((3, 8, 8)), None, path, heading=heading)


def one_image(path, heading):
    figures.image_grid(np.zeros((1, 8, 8)), ["a title"], path, heading=heading, columns=1)


def levels(path, heading):
    panel = figures.Levels(heading, "severity", [1, 2], {"a": [0.5, 0.4]})
    figures.levels([panel], path, chance=0.1, heading=heading)


def corruptions(path, heading):
    panel = figures.Levels(heading, "severity", [1, 2], {"a": [0.5, 0.4]})
    figures.corruptions([panel] * 5, path, chance=0.1, heading=heading)


def examples_of_levels(path, heading):
    figures.examples_of_levels({"blur": [("1", np.zeros((8, 8)))]}, path, heading=heading)


def probes(path, heading):
    lines = {"network": {"1-shot": [(0.0, 0.5, None), (1.0, 0.6, None)]}}
    figures.probes(lines, path, chance=0.1, heading=heading)


def episode(path, heading):
    part = (np.zeros((2, 4, 4)), np.array([0, 1]))
    figures.episode(part, part, ["a", "b"], path, heading=f"{heading}\n{heading}")


def adaptation(path, heading):
    modes = {"inductive": ([0.2, 0.9], [0.1, 0.1])}
    figures.adaptation(modes, path, what="accuracy", fraction=True, heading=heading)


def fits(path, heading):
    x = np.linspace(-1, 1, 5)
    figures.fits((x[None, :2], x[None, :2]), (x, x[None]), path, titles=[heading])


def similarities(path, heading):
    figures.layer_similarities(np.eye(2), ("a", "b"), ("xy", "xy"), path, heading=heading)


def explanation(path, heading):
    figures.explanation(np.zeros((8, 8)), {"grad_cam": np.eye(8)}, path, heading=heading)


def explanation_of_two(path, heading):
    maps = {"grad_cam": np.eye(8), "saliency": np.eye(8)}
    figures.explanation(np.zeros((8, 8)), maps, path, heading=heading)


def randomisation(path, heading):
    maps, likeness = {"a": np.ones((2, 8, 8))}, {"a": [1.0, 0.0]}
    figures.randomisation(np.zeros((8, 8)), maps, likeness, [0, 1], path, groups=1, heading=heading)


DRAWN = [
    grid, one_image, levels, corruptions, examples_of_levels, probes, episode, adaptation, fits,
    similarities, explanation, explanation_of_two, randomisation,
]  # fmt: skip


def boxes(figure):
    """Of each text its extent as fractions of the figure."""
    return {
        text.get_text(): text.get_window_extent().transformed(figure.transFigure.inverted())
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible()
    }


@pytest.mark.parametrize(
    ("draw", "heading"),
    [*((draw, WORDS[-1]) for draw in DRAWN), *((grid, heading) for heading in WORDS)],
    ids=[*(draw.__name__ for draw in DRAWN), "words", "one word", "wide letters", "capitals"],
)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
def test_a_heading_lies_within_its_figure(draw, heading, tmp_path, drawn):
    draw(tmp_path / "one.png", heading)
    for text, box in boxes(drawn[0]).items():
        if len(text) > 40:  # a heading, or a title of a panel
            assert min(box.x0, box.y0) >= 0, text
            assert max(box.x1, box.y1) <= 1, text


def test_a_heading_of_several_lines_is_not_drawn_over_images(tmp_path, drawn):
    grid(tmp_path / "one.png", WORDS[-1])
    (figure,) = drawn
    (box,) = boxes(figure).values()
    assert box.y0 > max(axes.get_position().y1 for axes in figure.axes)


def test_no_letter_of_a_wrapped_line_is_lost():
    for heading in WORDS:
        line = canvas.one_line(heading, 160)
        wrapped = canvas.wrapped(line, 2.0, 10).split("\n")
        assert "".join(wrapped).replace(" ", "") == line.replace(" ", "")
        assert all(canvas.text_width(part, 10) <= 2 for part in wrapped)
        assert len(wrapped) > 2
    assert canvas.wrapped("short words", 2.0, 10) == "short words"


NAMES = [f"a_network_with_a_rather_long_name_{number}" for number in range(24)]


def probes_of_networks(path):
    kinds = {"1-shot": [(0.0, 0.5, None), (1.0, 0.6, None)]}
    figures.probes(dict.fromkeys(NAMES, kinds), path, chance=0.1)


def levels_of_networks(path):
    panel = figures.Levels("blur", "severity", [1, 2], dict.fromkeys(NAMES, (0.5, 0.4)))
    figures.levels([panel], path, chance=0.1)


def fits_of_many_steps(path):
    x = np.linspace(-1, 1, 5)
    points = (x[None, :2], x[None, :2])
    predicted = dict.fromkeys((0, 1, 5, 10), x[None])
    figures.fits(points, (x, x[None]), path, predicted=predicted, query=points)


@pytest.mark.parametrize("draw", [probes_of_networks, levels_of_networks, fits_of_many_steps])
def test_a_legend_lies_within_its_figure_and_hides_nothing(draw, tmp_path, drawn):
    draw(tmp_path / "one.png")
    (figure,) = drawn
    (legend,) = figure.legends
    box = legend.get_window_extent().transformed(figure.transFigure.inverted())
    assert min(box.x0, box.y0) >= 0
    assert max(box.x1, box.y1) <= 1
    least = 2 / figure.get_size_inches()[1]
    assert all(axes.get_position().height > least for axes in figure.axes)
    assert all(axes.get_position().y0 > box.y1 for axes in figure.axes)


def test_the_name_of_a_segmented_image_ends_before_the_next_title(tmp_path, drawn):
    rows, mask = np.zeros((8, 8)), np.zeros((8, 8), int)
    titles = ["ILSVRC2012_val_00000293_of_the_segmentation.png"]
    figures.segmentations([(rows, mask, mask)], titles, ["a"], tmp_path / "one.png")
    found = boxes(drawn[0])
    (name,) = (box for text, box in found.items() if text.startswith("ILSVRC"))
    assert name.x1 < found["truth"].x0
