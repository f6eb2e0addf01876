"""Measures of how faithful a map is to the network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from model_variables import variables_of
from PIL import Image

from vitjax import models
from vitjax.analysis import attribution, faithfulness, object_masks
from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.models import Model


class Sum(Model):
    """Two logits: 0, and the sum of an image."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        total = x.sum((1, 2, 3))
        return jnp.stack([jnp.zeros_like(total), total], axis=1)


def test_deletion_by_hand():
    images = jnp.asarray([[[[3.0], [0.0]], [[1.0], [2.0]]]])
    maps = images[..., 0]
    curve = faithfulness.deletion(Sum(), {}, images, maps, 1, steps=4)
    left = np.array([6.0, 3.0, 1.0, 0.0, 0.0])
    expected = np.exp(left) / (1 + np.exp(left))
    np.testing.assert_allclose(curve.probabilities[0], expected, rtol=1e-6)
    np.testing.assert_allclose(curve.areas, np.trapezoid(expected, dx=0.25), rtol=1e-6)
    worst = faithfulness.deletion(Sum(), {}, images, -maps, 1, steps=4)
    assert worst.areas > curve.areas


def test_insertion_ends_with_the_image():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 1)), jnp.float32)
    curve = faithfulness.insertion(Sum(), {}, images, images[..., 0], jnp.array([1, 0]), steps=3)
    likely = jax.nn.softmax(Sum().apply({}, images))
    np.testing.assert_allclose(curve.probabilities[:, -1], [likely[0, 1], likely[1, 0]], rtol=1e-5)
    blurred = jax.nn.softmax(Sum().apply({}, faithfulness.blurred(images)))
    np.testing.assert_allclose(curve.probabilities[0, 0], blurred[0, 1], rtol=1e-5)
    # What is inserted first counts most for the first class, and least for the second.
    rising = np.diff(curve.probabilities[0])
    assert rising[0] > rising[-1]


def test_a_blur_keeps_the_mean_of_a_constant():
    images = jnp.full((1, 7, 9, 2), 3.0)
    np.testing.assert_allclose(faithfulness.blurred(images), images, rtol=1e-6)


def test_the_centre_gaussian_is_largest_in_the_middle():
    found = faithfulness.centre_gaussian(5, 7)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 3)
    np.testing.assert_allclose(found[2, 0], np.exp(-2))


def test_pointing_game():
    maps, masks = np.zeros((3, 20, 20)), np.zeros((3, 20, 20), bool)
    maps[:, 5, 5] = 1
    masks[0, 5, 5] = masks[1, 5, 9] = masks[2, 19, 19] = True
    np.testing.assert_array_equal(
        faithfulness.pointing_game(maps, masks, tolerance=3), [True, False, False]
    )
    np.testing.assert_array_equal(
        faithfulness.pointing_game(maps, masks, tolerance=4), [True, True, False]
    )


def test_the_pointing_game_needs_an_object_and_maps_of_the_size_of_the_masks():
    maps, masks = np.ones((2, 4, 4)), np.ones((2, 4, 4), bool)
    found = faithfulness.pointing_game(maps[:0], masks[:0])
    assert (found.shape, found.dtype) == ((0,), bool)
    with pytest.raises(ConfigError, match=r"shape \(2, 4, 4\), but masks of shape \(2, 2, 2\)"):
        faithfulness.pointing_game(maps, masks[:, :2, :2])
    with pytest.raises(ConfigError, match="masks: 1 for 2 images"):
        faithfulness.pointing_game(maps, masks[:1])
    masks[1] = False
    with pytest.raises(ConfigError, match="masks: mask 1 has no object"):
        faithfulness.pointing_game(maps, masks)
    maps[0, 1, 1] = np.nan
    with pytest.raises(ConfigError, match="maps: map 0 has numbers that are NaN"):
        faithfulness.pointing_game(maps[:1], masks[:1])


def test_a_file_of_a_mask_without_an_object_is_named(tmp_path):
    def files(name, mask):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
        return str(tmp_path / f"{name}.png")

    empty, drawn = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    drawn[0, 0] = 1
    image, kept = files("image", empty), (lambda read: read[..., None])
    with pytest.raises(DataError, match=r"none.png: the mask of .*image.png has no object"):
        object_masks.read(files("none", empty), image, kept)
    corner = files("corner", drawn)
    np.testing.assert_array_equal(object_masks.read(corner, image, kept), drawn == 1)
    with pytest.raises(DataError, match=r"corner.png: nothing is left .* to 4x4 pixels"):
        object_masks.read(corner, image, lambda read: read[1:5, 1:5, None])


@pytest.mark.parametrize("measure", [faithfulness.deletion, faithfulness.insertion])
def test_areas_are_not_measured_of_no_steps_or_maps_that_are_not_finite(measure):
    images = jnp.ones((2, 4, 4, 1))
    maps = np.ones((2, 4, 4))
    for steps in (0, -1):
        with pytest.raises(ConfigError, match=f"steps is {steps}; it must be at least 1"):
            measure(Sum(), {}, images, maps, 1, steps=steps)
    with pytest.raises(ConfigError, match=r"shape \(2, 4, 2\), but images of shape \(2, 4, 4\)"):
        measure(Sum(), {}, images, maps[:, :, :2], 1)
    for value in (np.nan, np.inf):
        maps[1, 2, 3] = value
        with pytest.raises(ConfigError, match="maps: map 1 has numbers that are NaN or infinite"):
            measure(Sum(), {}, images, maps, 1)


def test_a_constant_map_has_no_correlation():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    variables = variables_of(Zeros(), images)
    kernel = variables["params"]["head"]["kernel"]

    def method(variables, images):
        """Zeros for the second image, and for the first once the head is random."""
        trained = np.array_equal(variables["params"]["head"]["kernel"], kernel)
        return images[..., 0] * np.array([1.0 if trained else 0.0, 0.0])[:, None, None]

    found = faithfulness.cascade(Zeros(), variables, images, method, jax.random.key(0))
    similarities = [each.similarities for each in found]
    np.testing.assert_allclose(similarities, [[1, np.nan], *[[np.nan, np.nan]] * 2])
    with pytest.raises(ConfigError, match="most is 2"):
        next(faithfulness.cascade(Zeros(), {}, images, method, jax.random.key(0), most=2))


@pytest.mark.parametrize("method", ["grad_cam", "saliency"])
def test_random_layers_change_the_map(method):
    fields = {"stage_sizes": (1, 1), "width": 4, "stem": "cifar", "num_classes": 3}
    model = models.create("resnet18", **fields)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = variables_of(model, images)
    function = functools.partial(getattr(attribution, method), model, target=1)
    compiled = jax.jit(lambda v, x: function(v, x))
    found = list(
        faithfulness.cascade(model, variables, jnp.asarray(images), compiled, jax.random.key(0))
    )
    # The head, two blocks and the stem.
    assert [each.layers for each in found] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found[0].similarities, 1)
    assert np.all(np.abs(found[-1].similarities) < 0.9)
    assert variables["params"]["head"]["kernel"].shape == (8, 3)


class Zeros(Model):
    """A head that begins as zeros behind a layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(3, name="stem")(x.mean((1, 2)))
        return nn.Dense(2, name="head", kernel_init=nn.initializers.zeros)(x)

    def layer_key(self, name):
        return (int(name.startswith("head")),)


def test_of_many_layers_some_are_random_and_no_head_is_zero():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 3)), jnp.float32)
    seen = []

    def method(variables, images):
        seen.append(variables["params"]["head"]["kernel"])
        return images[..., 0]

    variables = variables_of(Zeros(), images)
    found = list(faithfulness.cascade(Zeros(), variables, images, method, jax.random.key(0)))
    assert [(each.layers, each.groups) for each in found] == [(0, 2), (1, 2), (2, 2)]
    np.testing.assert_array_equal(seen[0], variables["params"]["head"]["kernel"])
    assert np.std(seen[1]) > 0.1


def test_columns_of_a_cascade_are_spread_evenly():
    class Deep(Zeros):
        @nn.compact
        def __call__(self, x, train=False):
            x = x.mean((1, 2))
            for number in range(9):
                x = nn.Dense(3, name=f"layer{number}")(x)
            return x

        def layer_key(self, name):
            return (int(name.partition("/")[0].removeprefix("layer")),)

    images = jnp.ones((1, 4, 4, 3))
    variables = variables_of(Deep(), images)
    found = faithfulness.cascade(
        Deep(), variables, images, lambda v, x: x[..., 0], jax.random.key(0), most=4
    )
    assert [each.layers for each in found] == [0, 1, 5, 9]
