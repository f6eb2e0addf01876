"""How relatives of ResNet are initialised: no fixture shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from vitjax import models

WIDTH = 32


def initial(name, **fields):
    """The parameters of a narrow network of two stages by name."""
    model = models.create(name, stage_sizes=(1, 1), width=WIDTH, num_classes=5, **fields)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return flatten_dict(jax.device_get(variables["params"]), sep="/")


@pytest.mark.parametrize(
    ("name", "layers"),
    [("seresnet50", "attention"), ("senet154", "attention"), ("resnest50d", "conv2")],
)
def test_biases_of_attention_are_uniform_as_in_pytorch(name, layers):
    found = initial(name)
    for layer in ("reduce", "expand"):
        path = f"stage2_block1/{layers}/{layer}"
        limit = found[f"{path}/kernel"].shape[2] ** -0.5
        bias = found[f"{path}/bias"]
        assert 0.5 * limit < np.abs(bias).max() <= limit
        assert abs(bias.mean()) < 0.5 * limit


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("resnext50_32x4d", 1),  # as torchvision; timm's starts at zero
        ("seresnet50", 0),
        ("senet154", 1),
        ("skresnet50", 1),
        ("resnest50d", 0),
    ],
)
def test_the_last_scale_of_a_branch_starts_as_in_the_reference(name, scale):
    found = initial(name)
    for block in ("stage1_block1", "stage2_block1"):
        np.testing.assert_array_equal(found[f"{block}/conv3/norm/scale"], scale)
        np.testing.assert_array_equal(found[f"{block}/conv1/norm/scale"], 1)


@pytest.mark.parametrize(
    ("name", "layer", "fields", "reduced"),
    [
        ("seresnet50", "attention", {}, 24),  # of 4 * 88 channels, a multiple of 8 near 22
        ("senet154", "attention", {"groups": 1}, 22),  # not rounded
        ("resnest50d", "conv2", {}, 48),  # of 2 * 88 channels, a multiple of 8 near 44
    ],
)
def test_channels_of_attention_are_rounded_as_in_the_reference(name, layer, fields, reduced):
    model = models.create(name, stage_sizes=(1, 1), width=44, **fields)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), image)["params"], sep="/")
    assert shapes[f"stage2_block1/{layer}/reduce/bias"].shape == (reduced,)
