"""An image is the same as a file, as Pillow opens it, and as an array."""

import numpy as np
import pytest
from PIL import Image

from vitjax.data import DataError
from vitjax.data.any_image import read_any_image, several

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
RGB = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [GREY, RGB, RGBA, (GREY.astype(np.uint16) << 8) + 7])
def test_three_forms_have_the_same_pixels(tmp_path, pixels, channels):
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    expected = read_any_image(path, channels)
    assert expected.shape == (6, 5, channels)
    np.testing.assert_array_equal(read_any_image(pixels, channels), expected)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_any_image(opened, channels), expected)


def test_an_orientation_is_applied_and_a_palette_is_resolved(tmp_path):
    path = tmp_path / "x.png"
    turned = Image.fromarray(RGB)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    with Image.open(path) as opened:
        expected = read_any_image(path, 3)
        assert expected.shape == (5, 6, 3)
        np.testing.assert_array_equal(read_any_image(opened, 3), expected)
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(path)
    np.testing.assert_array_equal(read_any_image(palette, 3), read_any_image(path, 3))


def test_sixteen_bits_and_floats_keep_their_precision():
    deep = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
    found = read_any_image(deep, 1, sixteen_bits=True)
    np.testing.assert_allclose(found[..., 0], deep / 65535, rtol=1e-6)
    opened = read_any_image(Image.fromarray(deep), 1, sixteen_bits=True)
    np.testing.assert_array_equal(opened, found)
    assert read_any_image(deep / 65535, 3).dtype == np.float32


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), "this one is uint8 of shape"),
        (np.zeros((2, 3, 2), np.uint8), "with 1, 3, 4 channels"),
        (np.zeros((2, 3), np.int64), "this one is int64"),
        (np.zeros((0, 3), np.uint8), "of shape"),
        (np.zeros((2, 3, 3), np.float32), "has 3 channels, and the model was trained on 1"),
        (np.full((2, 3), np.nan), "6 values of NaN or infinity, of 6"),
        (np.array([[0, np.inf]]), "1 value of NaN or infinity, of 2"),
        (np.array([[0.0, 255]]), "from 0 to 255, where 0 is black and 1 is white; divide"),
        (np.array([[-2.1, 2.6]]), "before it is normalised"),
        (7, "not int"),
    ],
)
def test_what_is_no_picture_is_named(image, message):
    with pytest.raises(DataError, match=message):
        read_any_image(image, 1)


def test_one_picture_is_a_list_of_one():
    assert several("a.png") == ["a.png"]
    assert len(several(GREY)) == len(several(RGB)) == len(several(Image.fromarray(GREY))) == 1
    assert len(several(np.zeros((4, 6, 5, 3), np.uint8))) == 4
    assert several(x for x in "ab") == ["a", "b"]


@pytest.mark.parametrize("wrong", [0, None, b"a.png", {"a.png": 1}, np.float32(0.5)])
def test_what_are_no_pictures_is_named(wrong):
    with pytest.raises(DataError, match=f"a NumPy array, not {type(wrong).__name__}"):
        several(wrong)


def test_floats_of_data_with_a_range_of_its_own_are_taken_but_for_nan():
    standardised = np.array([[-2.1, 2.6]], np.float32)
    found = read_any_image(standardised, 1, any_range=True)
    np.testing.assert_array_equal(found[..., 0], standardised)
    with pytest.raises(DataError, match="NaN"):
        read_any_image(np.full((2, 3), np.nan), 1, any_range=True)
