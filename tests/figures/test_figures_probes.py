import numpy as np
import pytest
from PIL import Image

from vitjax import figures


def line(count, start=0.2, half=0.03):
    depths = np.linspace(0, 1, count)
    return [(depth, start + 0.7 * depth, half) for depth in depths.tolist()]


def test_a_panel_for_each_probe_and_a_line_for_each_network(drawn, tmp_path):
    networks = {
        "vit": {"1-shot": line(6), "5-shot": line(6, 0.3)},
        "a $network$ of " + 60 * "x": {"1-shot": line(4), "5-shot": line(4, 0.3, None)},
    }
    path = figures.probes(networks, tmp_path / "new/probes.png", chance=0.1, heading="digits")
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 300
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["1-shot", "5-shot"]
    for axes in figure.axes:
        first, second = (container.lines[0] for container in axes.containers)
        np.testing.assert_allclose(first.get_xdata(), np.linspace(0, 1, 6))
        assert len(second.get_xdata()) == 4
        low, high = axes.get_ylim()
        assert low < 20
        assert high >= 100
    # Percent, and half of the interval on either side.
    first = figure.axes[1].containers[0]
    np.testing.assert_allclose(first.lines[0].get_ydata()[[0, -1]], [30, 100])
    (bars,) = first.lines[2]
    np.testing.assert_allclose(np.diff(bars.get_segments()[0][:, 1]), 6)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert (labels[0], labels[2]) == ("vit", "chance: 10%")
    assert max(map(len, labels)) < 50


@pytest.mark.parametrize("kinds", [1, 4, 5])
def test_any_number_of_probes_has_room(drawn, tmp_path, kinds):
    lines = {f"k={k}": line(3, half=None) for k in range(kinds)}
    figures.probes({"one": lines}, tmp_path / "probes.png", chance=0.5)
    (figure,) = drawn
    assert len(figure.axes) == kinds
    boxes = [axes.get_position() for axes in figure.axes]
    for number, box in enumerate(boxes):
        assert box.width > 0.15
        assert not any(box.overlaps(other) for other in boxes[:number])
