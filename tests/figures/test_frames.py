"""A frame around a part of an image can be seen on any image."""

import numpy as np
import pytest

from vitjax import figures
from vitjax.analysis import looking

SHAPES = [(8, 8), (28, 28), (32, 48), (63, 64), (128, 128), (224, 224), (600, 400)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_has_a_white_and_a_black_line_on_any_image(shape):
    for value in (0, 100, 255):
        image = np.full((*shape, 3), value, np.uint8)
        drawn = figures.framed(image, (0.25, 0.75), (0.0, 0.5))
        assert image.min() == image.max() == value
        height, width, _ = drawn.shape
        line = round(max(height, width) / 64)
        # At least 2.5 pixels of a figure whose cell has 186.
        assert line / max(height, width) * 186 > 2.5
        expected = np.full_like(drawn, value)
        top, bottom = round(height / 4), round(3 * height / 4)
        right = round(width / 2)
        expected[top:bottom, :right] = 255
        expected[top + line : bottom - line, line : right - line] = 0
        inside = (slice(top + 2 * line, bottom - 2 * line), slice(2 * line, right - 2 * line))
        expected[inside] = value
        np.testing.assert_array_equal(drawn, expected)


def test_what_is_not_framed_stays_and_small_images_are_enlarged():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    drawn = figures.framed(image, (0.5, 1.0), (0.5, 1.0))
    np.testing.assert_array_equal(drawn[:92], image.repeat(23, 0).repeat(23, 1)[:92])
    np.testing.assert_array_equal(drawn[138, 138], image[6, 6])
    wide = figures.framed(np.zeros((1, 500, 3)), (0.2, 0.3), (0.2, 0.3))
    assert wide[0, 100:150].min() == 255
    assert wide[0, :100].max() == 0


@pytest.mark.parametrize(
    ("place", "map_shape", "expected"),
    [
        # Of a map with large cells the cell, of others a quarter of a side; within the image.
        ((0, 1), (2, 2), (0, 100, 100, 200)),
        ((4, 4), (9, 9), (75, 125, 75, 125)),
        ((0, 99), (100, 100), (0, 26, 174, 200)),
    ],
)
def test_the_place_of_a_map_is_framed(place, map_shape, expected):
    drawn = looking._boxed(np.zeros((200, 200)), np.array(place), map_shape)
    rows, columns = np.nonzero(drawn)
    found = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    np.testing.assert_allclose(found, expected, atol=1)
