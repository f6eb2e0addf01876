"""Data of two cues: drawn, and from folders of a user."""

import pickle

import numpy as np
import pytest
from PIL import Image

from vitjax import data as vitjax_data
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.sources.cue_folders import combined, cue_folders
from vitjax.data.sources.folder import folder
from vitjax.data.sources.shape_texture import CLASSES, CONFLICT, shape_texture
from vitjax.data.stylize import exchange_amplitude, stylized

SMALL = {"image_size": 16, "train": 18, "val": 9, "test": 9}
RNG = np.random.default_rng(0)


def test_cues_agree_but_in_the_conflict():
    source = shape_texture(**SMALL, conflict=144)
    assert source.class_names == tuple(CLASSES)
    for name in ("train", "val", "test"):
        split = source.split(name)
        np.testing.assert_array_equal(split.labels, split.textures)
        assert set(split.labels) == set(range(9))
    split = source.split(CONFLICT)
    pairs = split.labels * 9 + split.textures
    assert not np.any(split.labels == split.textures)
    # All ordered pairs, equally often.
    assert np.unique(pairs, return_counts=True)[1].tolist() == [2] * 72
    sample = split.read(5)
    assert (sample.image.shape, sample.image.dtype) == ((16, 16, 3), np.uint8)
    assert sample.label == split.labels[5]


def test_images_follow_from_the_seed_and_their_number():
    one, other = shape_texture(**SMALL), shape_texture(**{**SMALL, "train": 30}, conflict=9)
    seed = shape_texture(**SMALL, drawing=1)
    for name in ("train", "test", CONFLICT):
        image = one.split(name).read(7).image
        np.testing.assert_array_equal(image, other.split(name).read(7).image)
        sent = pickle.loads(pickle.dumps(one.split(name)))
        np.testing.assert_array_equal(image, sent.read(7).image)
        assert np.any(image != seed.split(name).read(7).image)
    assert np.any(one.split("train").read(7).image != one.split("test").read(7).image)
    same, more, another = (x.split("train").identity() for x in (one, other, seed))
    assert same.digest not in (more.digest, another.digest)
    np.testing.assert_array_equal(same.labels, one.split("train").labels)


def test_every_shape_and_texture_differs_from_the_others():
    """The outline does not depend on the texture, and is seen in each."""
    from vitjax.data.sources.shape_texture import _silhouette

    shapes = [shape for shape, _ in CLASSES.values()]
    masks = [_silhouette(shape(), np.random.default_rng(3), 96) for shape in shapes]
    for number, mask in enumerate(masks):
        assert 0.05 < mask.mean() < 0.7
        for other in masks[:number]:
            assert np.mean(mask != other) > 0.02


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"image_size": 8}, "image_size is 8"),
        ({"train": 0}, "train is 0"),
        ({"drawing": -1}, "drawing is -1"),
        ({"conflicts": 3}, "unknown key 'conflicts'; did you mean 'conflict'"),
    ],
)
def test_wrong_keywords_are_named(keywords, words):
    with pytest.raises(ConfigError, match=words):
        vitjax_data.create(seed=0, source="shape_texture", batch_size=2, **keywords)


def test_the_exchange_keeps_phase_and_takes_amplitude():
    shape, texture = (RNG.integers(0, 256, (11, 14, 3)).astype(float) for _ in range(2))
    made = exchange_amplitude(shape, texture)
    found, first, second = (np.fft.fft2(x, axes=(0, 1)) for x in (made, shape, texture))
    np.testing.assert_allclose(np.abs(found), np.abs(second), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(
        found / np.abs(found), first / np.abs(first), rtol=0, atol=1e-6
    )  # the same angles, without a jump at 180 degrees
    np.testing.assert_allclose(exchange_amplitude(shape, texture, 0.0), shape, atol=1e-9)
    half = np.abs(np.fft.fft2(exchange_amplitude(shape, texture, 0.5), axes=(0, 1)))
    np.testing.assert_allclose(half, (np.abs(first) + np.abs(second)) / 2, atol=1e-6)
    np.testing.assert_allclose(exchange_amplitude(shape, shape), shape, atol=1e-9)
    with pytest.raises(DataError, match="resize one"):
        exchange_amplitude(shape, texture[1:])


def test_a_stylised_image_is_bytes_and_follows_from_the_generator():
    shape, texture = (RNG.integers(0, 256, (16, 16, 1), np.uint8) for _ in range(2))
    one, same, other = (stylized(shape, texture, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


@pytest.fixture
def folders(tmp_path):
    """Two folders with the same three classes, five images in each."""
    for kind in ("shapes", "textures"):
        for name in ("cat", "dog", "owl"):
            (tmp_path / kind / name).mkdir(parents=True)
            for number in range(5):
                image = RNG.integers(0, 256, (14, 20, 3), np.uint8)
                Image.fromarray(image).save(tmp_path / kind / name / f"{number}.png")
    return str(tmp_path / "shapes"), str(tmp_path / "textures")


def test_folders_are_combined(folders):
    source = cue_folders(*folders, image_size=12, val_fraction=0, test_fraction=0.4)
    assert source.class_names == ("cat", "dog", "owl")
    assert {name: len(split) for name, split in source.splits.items()} == {
        **{"train": 9, "test": 6, CONFLICT: 6}
    }
    for name in ("train", "test"):
        np.testing.assert_array_equal(source.split(name).labels, source.split(name).textures)
    conflict = source.split(CONFLICT)
    assert not np.any(conflict.labels == conflict.textures)
    np.testing.assert_array_equal(conflict.labels, source.split("test").labels)
    sample = conflict.read(4)
    assert sample.image.shape == (12, 12, 3)
    again = cue_folders(*folders, image_size=12, val_fraction=0, test_fraction=0.4)
    np.testing.assert_array_equal(sample.image, again.split(CONFLICT).read(4).image)
    assert "with the texture of" in conflict.name(0)
    data = vitjax_data.create(
        **{"seed": 0, "source": "cue_folders", "shapes": folders[0], "textures": folders[1]},
        **{"image_size": 12, "batch_size": 2},
    )
    with data.train_batches() as batches:
        assert next(batches)["image"].shape == (2, 12, 12, 3)


def test_fewer_examples_are_of_all_classes(folders):
    sources = [folder(path, val_fraction=0, test_fraction=0) for path in folders]
    few = combined(*sources, "train", 8, most=3, agreeing=False)
    assert few.labels.tolist() == [0, 1, 2]


def test_folders_that_do_not_fit_are_named(folders, tmp_path):
    (tmp_path / "textures" / "dog").rename(tmp_path / "textures" / "dogs")
    with pytest.raises(DataError, match="textures has no class 'dog'; did you mean 'dogs'"):
        cue_folders(*folders)
    (tmp_path / "textures" / "dogs").rename(tmp_path / "textures" / "dog")
    with pytest.raises(DataError, match=r"grid = 9: .*at most 8"):
        cue_folders(*folders, image_size=8, grid=9)
    with pytest.raises(DataError):
        cue_folders(folders[0], str(tmp_path / "nowhere"))
