"""Inner values of networks are changed and differentiated by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models
from vitjax.analysis.opened import Opened
from vitjax.core.errors import ConfigError

VIT = {"width": 8, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 3}
NETWORKS = {
    "vit_ti16": (VIT, (8, 12, 3), "encoder/block_0/after_mlp"),
    "resnet18": (
        {"stage_sizes": (1, 1), "width": 4, "stem": "cifar", "num_classes": 3},
        (8, 8, 3),
        "stage1",
    ),
    "conv4": ({"filters": 4, "depth": 2, "num_classes": 3}, (8, 8, 3), "block1"),
}


def made(name):
    fields, shape, layer = NETWORKS[name]
    model = models.create(name, **fields)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    return model, variables_of(model, images), images, layer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_value_that_is_changed_changes_what_follows(name):
    model, variables, images, layer = made(name)
    opened = Opened(model)
    outputs, values = jax.jit(opened.__call__)(variables, images)
    np.testing.assert_allclose(outputs, model.apply(variables, images), rtol=1e-5, atol=1e-5)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        double = Opened(model.clone(dtype="float64", param_dtype="float64"))
        rng = np.random.default_rng(1)
        direction, weights = (rng.normal(size=x.shape) for x in (values[layer], outputs))

        @jax.jit
        def score(size):
            found, _ = double(wide, jnp.asarray(images, jnp.float64), {layer: size * direction})
            return jnp.sum(weights * found)

        slope = float(jax.grad(score)(0.0))
        step = 1e-6
        expected = float(score(step) - score(-step)) / (2 * step)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_blocks_of_a_scan_have_values_of_their_own():
    model = models.create("vit_ti16", **VIT, scan_layers=True)
    images = jnp.ones((1, 8, 8, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    found = Opened(model).shapes(shapes, images)
    assert found["encoder/block_1/attention/map"] == (1, 2, 5, 5)


def test_a_value_that_is_not_there_is_named():
    model, variables, images, _ = made("conv4")
    with pytest.raises(ConfigError, match="has no layer 'blok1'; did you mean 'block1'"):
        Opened(model)(variables, images, {"blok1": 0.0})


def test_tokens_of_patches_are_a_map():
    model = models.create("vit_ti16", **VIT, registers=2)
    opened = Opened(model)
    tokens = jnp.arange(2 * 9 * 8).reshape(2, 9, 8)
    found = opened.as_map("tokens", tokens, (8, 12, 3))
    np.testing.assert_array_equal(found, tokens[:, 3:].reshape(2, 2, 3, 8))
    for name, shape in (("pooled", (2, 8)), ("encoder/block_0/attention/map", (2, 2, 9, 9))):
        with pytest.raises(ConfigError, match="no map over its pixels"):
            opened.as_map(name, jnp.ones(shape), (8, 12, 3))
