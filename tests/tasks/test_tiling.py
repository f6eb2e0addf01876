import jax
import numpy as np
import pytest
from small_segmentation import Padded, Unpadded, objective

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.tasks.tiling import Tiler, cover


def image(height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, 2)).astype(np.float32)


def made(model, side):
    task = objective(model)
    return task, task.init(jax.random.key(0), {"image": np.zeros((1, side, side, 2), np.float32)})


@pytest.mark.parametrize(("height", "width"), [(33, 20), (7, 50)])
@pytest.mark.parametrize("tile", [13, 18, 24])
def test_tiles_of_the_unpadded_form_are_the_whole_image(height, width, tile):
    task, variables = made(Unpadded(), 20)
    picture = image(height, width)
    whole = task.predict(variables, {"image": picture[None]})[0]
    tiled = Tiler(task, variables, tile, batch_size=3)(picture)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_tiles_of_the_papers_form_are_the_whole_image():
    model = models.create("unet_valid", filters=2, depth=2, num_classes=3)
    task, variables = made(model, model.valid_size(1))
    picture = image(33, 50)
    whole = task.predict(variables, {"image": picture[None]})[0]
    tiled = Tiler(task, variables, model.margin + 9, batch_size=3)(picture)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.ptp(whole) > 0.1


@pytest.mark.parametrize(("length", "side"), [(5, 8), (8, 8), (9, 8), (41, 8), (100, 1)])
def test_weights_of_blended_tiles_add_up_to_one(length, side):
    total = np.zeros(length)
    for start, weight in cover(length, side, None):
        assert (weight > 0).all()
        total[start : start + len(weight)] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_constant_field_stays_constant():
    task, variables = made(Padded(), 8)
    variables = jax.tree.map(np.zeros_like, variables)
    tiled = Tiler(task, variables, 8)(image(21, 30))
    np.testing.assert_allclose(tiled, 1 / 3, atol=1e-6)


def test_one_tile_is_the_whole_image():
    task, variables = made(Padded(), 8)
    picture = image(16, 16)
    whole = task.predict(variables, {"image": picture[None]})[0]
    np.testing.assert_allclose(Tiler(task, variables, 16)(picture), whole, atol=1e-6)


def turned(picture, turns, flip):
    return np.rot90(picture[:, ::-1] if flip else picture, turns)


def turned_back(picture, turns, flip):
    picture = np.rot90(picture, -turns)
    return picture[:, ::-1] if flip else picture


@pytest.mark.parametrize("model", [Padded(), Unpadded()])
def test_augmentation_is_the_mean_over_eight_turned_images(model):
    task, variables = made(model, 20)
    picture = image(23, 31)
    ways = [(turns, flip) for turns in range(4) for flip in (False, True)]
    tiler = Tiler(task, variables, 20)
    each = [turned_back(tiler(turned(picture, *way)), *way) for way in ways]
    found = tiler(picture, tta=True)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    assert np.abs(found - each[0]).max() > 1e-3
    # So it turns with the image.
    again = turned_back(tiler(turned(picture, 1, True), tta=True), 1, True)
    np.testing.assert_allclose(again, found, atol=1e-6)


@pytest.mark.parametrize("tta", [False, True])
def test_bands_are_the_rows_of_the_image_in_order(tta):
    task, variables = made(Padded(), 8)
    picture = image(90, 20)
    tiler = Tiler(task, variables, 12, batch_size=3)
    bands = list(tiler.bands(picture, tta=tta))
    assert max(map(len, bands)) <= 12
    assert len(bands) > 5
    np.testing.assert_array_equal(np.concatenate(bands), tiler(picture, tta=tta))


def test_mistakes_are_named():
    task, variables = made(Unpadded(), 20)
    with pytest.raises(ConfigError, match="the model loses 12 pixels"):
        Tiler(task, variables, 12)
    with pytest.raises(ConfigError, match="--tile is 0"):
        Tiler(task, variables, 0)
