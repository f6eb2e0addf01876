"""AlexNet's paper and ZFNet: sizes of the papers, and local response normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vitjax import models
from vitjax.nn.local_response_norm import local_response_norm


def test_local_response_normalisation():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 7))
    expected = np.empty_like(x)
    for i in range(7):
        total = (x[..., max(0, i - 2) : i + 3] ** 2).sum(-1)
        expected[..., i] = x[..., i] / (2 + 0.3 * total) ** 0.75
    with jax.enable_x64(True):
        found = local_response_norm(jnp.asarray(x), alpha=0.3)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        gradients = jax.grad(lambda x: jnp.sum(local_response_norm(x, alpha=0.3) ** 3))
        check_grads(gradients, (jnp.asarray(x),), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("alexnet_paper", 227, {"stage1": 55, "stage2": 27, "stage3": 13, "last": 6}),
        ("zfnet", 224, {"stage1": 110, "stage2": 26, "stage3": 13, "last": 6}),
    ],
)
def test_sides_of_the_papers_maps(name, side, sides):
    model = models.create(name)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)

    def maps(key, images):
        return model.init_with_output(key, images, method="features")[0]

    found = jax.eval_shape(maps, jax.random.key(0), images)
    assert {key: x.shape[1:3] for key, x in found.items()} == {k: (n, n) for k, n in sides.items()}


def test_initial_biases_of_the_paper():
    model = models.create("alexnet_paper", hidden=2, num_classes=2)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 67, 67, 3)))["params"]
    ones = {"stage2_conv1", "stage3_conv2", "stage3_conv3", "fc1", "fc2"}
    for name, layer in params.items():
        assert np.all(np.asarray(layer["bias"]) == (name in ones)), name
