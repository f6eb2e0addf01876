import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "objectives"))
from pixelwise import Padded, Unpadded, objective

from vitjax.registry import ConfigError
from vitjax.training.tiling import Tiler, cover, turned, turned_back


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


@pytest.mark.parametrize(("length", "side"), [(5, 8), (8, 8), (9, 8), (41, 8), (100, 1)])
def test_weights_of_blended_tiles_add_up_to_one(length, side):
    total = np.zeros(length)
    for place in cover(length, side, None):
        assert (place.weight > 0).all()
        total[place.start : place.start + len(place.weight)] += place.weight
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


@pytest.mark.parametrize("model", [Padded(), Unpadded()])
@pytest.mark.parametrize(("turns", "flip"), [(1, False), (2, True)])
def test_augmented_predictions_turn_with_the_image(model, turns, flip):
    task, variables = made(model, 20)
    tiler = Tiler(task, variables, 20)
    picture = image(23, 31)
    found = tiler(turned(picture, turns, flip), tta=True)
    np.testing.assert_allclose(turned_back(found, turns, flip), tiler(picture, tta=True), atol=1e-5)


def test_mistakes_are_named():
    task, variables = made(Unpadded(), 20)
    with pytest.raises(ConfigError, match="the model loses 12 pixels"):
        Tiler(task, variables, 12)
    with pytest.raises(ConfigError, match="side is 0"):
        Tiler(task, variables, 0)
