"""Characters of a made-up alphabet."""

from __future__ import annotations

import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.data.sources import SOURCES


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """All images of the default alphabet: (classes, drawings, height, width)."""
    source = SOURCES.create("glyphs")
    images = np.concatenate([split.images for split in source.splits.values()])
    return images.reshape(200, 20, 28, 28)


def test_splits_have_classes_of_their_own():
    source = SOURCES.create("glyphs", classes=50, drawings=3)
    held = {name: np.unique(split.labels) for name, split in source.splits.items()}
    assert {name: len(classes) for name, classes in held.items()} == {
        "train": 32,
        "val": 8,
        "test": 10,
    }
    np.testing.assert_array_equal(np.concatenate(list(held.values())), np.arange(50))
    assert len(source.class_names) == 50
    for split in source.splits.values():
        assert (np.bincount(split.labels)[split.labels] == 3).all()


def test_an_alphabet_is_always_the_same(drawn):
    again = SOURCES.create("glyphs", classes=20)
    train = again.split("train").images.reshape(-1, 20, 28, 28)
    np.testing.assert_array_equal(train, drawn[: len(train)])
    other = SOURCES.create("glyphs", classes=20, alphabet=1).split("train").images
    assert (other.reshape(train.shape) != train).any(axis=(1, 2, 3)).all()


def test_strokes_are_white_smooth_and_inside(drawn):
    assert drawn.dtype == np.uint8
    assert drawn.max() == 255
    ink = (drawn / 255).mean(axis=(2, 3))
    assert np.quantile(ink, 0.01) > 0.03
    assert np.quantile(ink, 0.99) < 0.3
    assert ((drawn > 0) & (drawn < 255)).mean() > 0.03  # smooth edges
    edge = np.concatenate([drawn[..., 0, :], drawn[..., -1, :], drawn[..., 0], drawn[..., -1]], -1)
    assert (edge.max(-1) > 127).mean() < 0.03  # hardly ever cut off


def test_drawings_of_a_letter_differ_and_letters_differ_more(drawn):
    # Nearest neighbours in pixels, 5-way 1-shot: neither hopeless nor enough.
    rng = np.random.default_rng(0)
    images = drawn.reshape(200, 20, -1) / 255
    assert len(np.unique(drawn.reshape(4000, -1), axis=0)) == 4000
    correct = []
    for _ in range(600):
        classes, shown = rng.permutation(200)[:5], rng.permutation(20)[:2]
        support, query = images[classes, shown[0]], images[classes, shown[1]]
        distances = np.square(query[:, None] - support).sum(-1)
        correct.append(distances.argmin(1) == np.arange(5))
    assert 0.55 < np.mean(correct) < 0.75


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"classes": 4}, r"classes is 4; it must be in \[5, 100000\]"),
        ({"drawings": 0}, "drawings is 0"),
        ({"image_size": 7}, "image_size is 7"),
        ({"alphabet": -1}, "alphabet is -1"),
    ],
)
def test_what_is_too_small_is_said(keywords, message):
    with pytest.raises(ConfigError, match=message):
        SOURCES.create("glyphs", **keywords)


def test_other_sizes():
    images = SOURCES.create("glyphs", classes=5, drawings=2, image_size=64).split("test").images
    assert images.shape == (2, 64, 64, 1)
    assert images.max() == 255
