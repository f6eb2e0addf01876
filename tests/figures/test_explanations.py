"""The panels of maps are on one level, and say what cannot be computed."""

import numpy as np
import pytest

from vitjax import figures

RNG = np.random.default_rng(0)
IMAGE = RNG.random((6, 9, 3))


def images(figure):
    """The extents of the axes with an image, as they were drawn."""
    found = [axes for axes in figure.axes if axes.images]
    return [axes.get_position() for axes in found]


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_the_image_is_on_the_level_of_the_maps(count, tmp_path, drawn):
    maps = {f"map {number}": RNG.normal(size=(6, 9)) for number in range(count)}
    figures.explanation(IMAGE, maps, tmp_path / "one.png", heading="a heading")
    boxes = images(drawn[0])
    assert len(boxes) == count + (2 if count == 1 else 1)
    rows = {round(box.y1, 6) for box in boxes}
    assert len(rows) == (1 if count <= 4 else 2)
    sizes = [(box.width, box.height) for box in boxes]
    np.testing.assert_allclose(sizes, [sizes[0]] * len(sizes))
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_the_image_is_on_the_level_of_random_layers(tmp_path, drawn):
    maps = {"a": RNG.normal(size=(3, 6, 9)), "b": RNG.normal(size=(3, 6, 9))}
    likeness = {"a": [1.0, 0.5, 0.2], "b": [1.0, 0.5, 0.2]}
    path = tmp_path / "one.png"
    figures.randomisation(IMAGE, maps, likeness, [0, 1, 2], path, groups=2, heading="a heading")
    boxes = images(drawn[0])
    assert len(boxes) == 8
    assert len({round(box.y1, 6) for box in boxes}) == 2
    np.testing.assert_allclose([box.height for box in boxes], boxes[0].height)


def test_an_undefined_correlation_is_not_a_number(tmp_path, words):
    plain, constant = RNG.normal(size=(6, 9)), np.zeros((6, 9))
    maps = {"a": np.stack([plain, constant]), "b": np.stack([constant, plain])}
    maps["c"] = np.stack([plain, np.full((6, 9), np.nan)])
    likeness = {"a": [1.0, np.nan], "b": [np.nan, np.nan], "c": [0.25, np.nan]}
    figures.randomisation(IMAGE, maps, likeness, [0, 1], tmp_path / "one.png", groups=1)
    said = [word for word in words if word.startswith(("r ", "constant", "not"))]
    assert said == [
        *("r = 1.00", "constant map"),
        *("constant map", "r undefined"),
        *("r = 0.25", "not finite"),
    ]
