"""Pipelines written as text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.data import DataError, Sample
from vitjax.data.transforms import TRANSFORMS, Photometric, Transform, parse, register
from vitjax.data.transforms.geometry import Flip, RandomResizedCrop, Resize


def test_steps_and_arguments_are_read():
    pipeline = parse("resize((8, 6), interpolation='nearest') | flip |\n random_resized_crop(4)")
    assert pipeline.steps == (Resize((8, 6), "nearest"), Flip(), RandomResizedCrop(4))
    sample = Sample(np.zeros((9, 9, 3), np.uint8))
    assert pipeline(sample, np.random.default_rng(0)).image.shape == (4, 4, 3)


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_does_nothing(text):
    sample = Sample(np.zeros((2, 2, 1), np.uint8))
    assert parse(text)(sample, np.random.default_rng(0)) is sample


def test_pipelines_travel_to_workers():
    pipeline = parse("rand_augment(2, 15) | trivial_augment | random_erasing(0.25)")
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resise(3)", r"unknown transform 'resise'; did you mean 'resize'"),
        ("resize(3, interpolaton='nearest')", r"'interpolaton'; did you mean 'interpolation'"),
        ("resize", r"'size' is missing"),
        ("resize(3, 'nearest', 1)", r"at most 2 arguments \(size, interpolation\), not 3"),
        ("resize(3, size=4)", r"'size' twice"),
        ("resize(3, 'closest')", r"interpolation is 'closest'; it must be 'nearest'"),
        ("resize(0)", r"size is 0"),
        ("resize(2.5)", r"size is 2.5"),
        ("resize(True)", r"size is True"),
        ("resize((1, 2, 3))", r"size is \(1, 2, 3\)"),
        ("flip(2)", r"p is 2; it must be in \[0, 1\]"),
        ("flip |", r"invalid syntax"),
        ("flip, flip", r"is not a transform"),
        ("flip || flip", r"invalid syntax"),
        ("(lambda: 0)()", r"is not a transform"),
        ("resize(open('x'))", r"\"open\('x'\)\" is not a plain value"),
        ("resize(**{'size': 3})", r"'\*\*'"),
        ("random_resized_crop(8, scale=(1, 0.5))", r"in ascending order"),
        ("random_resized_crop(8, scale=0.5)", r"scale is 0.5; it must be a list"),
        (
            "random_resized_crop(8, scale=(0.5,))",
            r"scale is \(0.5,\); it must be a list of 2",
        ),
        ("rand_augment(2, 31)", r"magnitude is 31; it must be in \[0, 30\]"),
        ("random_erasing(value='noise')", r"value is 'noise'"),
        ("pad_and_crop(8, -1)", r"padding is -1"),
        ("color_jitter(hue=0.7)", r"hue is 0.7"),
    ],
)
def test_errors_quote_the_pipeline(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text, "config.data.train_transforms")
    assert str(caught.value).startswith(f"config.data.train_transforms: in {text!r}: ")


def test_what_is_no_text_is_an_error():
    with pytest.raises(ConfigError, match="must be a string"):
        parse(["flip"])  # type: ignore[arg-type]


def test_every_transform_is_documented():
    for name in TRANSFORMS:
        assert TRANSFORMS[name].__doc__


@pytest.fixture
def registered(forgotten_after_the_test):
    """Registers transforms for one test."""
    return register


class Darker(Photometric):
    def change(self, image, rng):
        return (image * rng.random()).astype(image.dtype)


class Shorter(Photometric):
    def change(self, image, rng):
        return image[1:]


def test_a_photometric_transform_of_ones_own_changes_both_images_alike(registered):
    registered("darker")(Darker)
    image = np.full((4, 5, 1), 200, np.uint8)
    mask, boxes = np.ones((4, 5), np.int32), np.float32([[0, 1, 2, 3]])
    sample = Sample(image, mask=mask, boxes=boxes, second_image=image.copy())
    made = parse("darker")(sample, np.random.default_rng(0))
    assert made.mask is mask
    assert made.boxes is boxes
    assert (made.image < 200).all()
    np.testing.assert_array_equal(made.image, made.second_image)


def test_a_photometric_transform_must_not_move_pixels(registered):
    registered("shorter")(Shorter)
    with pytest.raises(DataError, match=r"Shorter made an image of shape .*keeps height and width"):
        parse("shorter")(Sample(np.zeros((4, 4, 1), np.uint8)), np.random.default_rng(0))


def test_what_is_not_a_transform_is_an_error(registered):
    registered("plain")(lambda: lambda image, rng: image)
    with pytest.raises(
        ConfigError, match=r"plain is function, which is not a Transform.*Photometric"
    ):
        parse("plain")


def test_all_transforms_are_declared():
    for name in TRANSFORMS:
        assert issubclass(TRANSFORMS[name], Transform), name
