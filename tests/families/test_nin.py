"""Network in Network: sides of maps, initial weights, dropout, and the head of a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError

SMALL = {"nin_cifar10": (2,) * 8, "nin_imagenet": (2,) * 11}


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("nin_cifar10", 32, [32, 16, 8]),
        ("nin_cifar10", 4, [4, 2, 1]),
        ("nin_imagenet", 224, [54, 27, 13, 6]),
        ("nin_imagenet", 39, [8, 4, 2, 1]),
    ],
)
def test_sides_of_maps(name, side, sides):
    model = models.create(name)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)

    def maps(key, images):
        return model.init_with_output(key, images, method="features")[0]

    found = jax.eval_shape(maps, jax.random.key(0), images).values()
    assert [x.shape[1:3] for x in found] == [(n, n) for n in sides]
    if side == model.smallest_image:
        with pytest.raises(models.ImageError, match=f"needs at least {side} x {side}"):
            jax.eval_shape(maps, jax.random.key(0), jnp.zeros((1, side, side - 1, 3)))


@pytest.mark.parametrize(
    ("name", "narrow"),
    [("nin_cifar10", set()), ("nin_imagenet", {"stage1_conv1", "stage3_conv1", "head"})],
)
def test_initial_weights_are_those_of_the_published_networks(name, narrow):
    model = models.create(name, widths=[40] * len(SMALL[name]), num_classes=40)
    images = jnp.zeros((1, model.smallest_image, model.smallest_image, 3))
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    for layer, leaves in params.items():
        expected = 0.01 if layer in narrow else 0.05
        np.testing.assert_allclose(np.std(leaves["kernel"]), expected, rtol=0.1, err_msg=layer)
        assert not np.any(leaves["bias"])


@pytest.mark.parametrize(("name", "dropped"), [("nin_cifar10", 2), ("nin_imagenet", 1)])
def test_dropout_follows_poolings(name, dropped):
    model = models.create(name, widths=SMALL[name])
    side = model.smallest_image
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))

    def apply(variables, images, key):
        return model.apply(variables, images, train=True, rngs={"dropout": key})

    images = jnp.zeros((1, side, side, 3))
    traced = str(jax.make_jaxpr(apply)(variables, images, jax.random.key(0)))
    assert traced.count("random_bits") == dropped


def test_the_head_alone_continues_the_network_without_it():
    model = models.create("nin_cifar10", widths=SMALL["nin_cifar10"], num_classes=3)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = variables_of(model, images)
    head, rest = model.split_head(variables["params"])
    maps = jax.jit(model.headless().apply)({"params": rest}, images)
    assert maps.shape == (2, 2, 2, 2)
    outputs = jax.jit(model.only_head(head).apply)({"params": head}, maps)
    np.testing.assert_allclose(outputs, jax.jit(model.apply)(variables, images), rtol=1e-5)
    assert np.any(outputs)


def test_widths_are_those_of_the_stages():
    with pytest.raises(ConfigError, match="has 3 channels; form='cifar' has 8 convolutions before"):
        models.create("nin_cifar10", widths=[2, 2, 2])
