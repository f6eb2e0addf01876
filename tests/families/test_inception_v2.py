"""Blocks of BN-Inception against an implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models

AVERAGE, LARGEST = np.mean, np.max


def convolve(x, layer, statistics, stride):
    """A convolution, batch normalisation and a ReLU of a map (height, width, channels)."""
    kernel, bias = layer["conv"]["kernel"], layer["conv"]["bias"]
    side = len(kernel)
    x = np.pad(x, [(side // 2, side // 2)] * 2 + [(0, 0)])
    rows, columns = ((n - side) // stride + 1 for n in x.shape[:2])
    y = np.zeros((rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[i * stride : i * stride + side, j * stride : j * stride + side]
            y[i, j] = np.einsum("hwc,hwcd->d", window, kernel) + bias
    norm, running = layer["norm"], statistics["norm"]
    y = (y - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    return np.maximum(y * norm["scale"] + norm["bias"], 0)


def pooled(x, kind):
    """3 x 3 windows around each pixel: means, with the zeros around the map, or the largest."""
    outside = 0 if kind is AVERAGE else -np.inf
    x = np.pad(x, [(1, 1), (1, 1), (0, 0)], constant_values=outside)
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    windows = [[kind(x[i : i + 3, j : j + 3], (0, 1)) for j in range(columns)] for i in range(rows)]
    return np.array(windows)


def reduced(x):
    """The largest of 3 x 3 windows at every second pixel, the last ones cut off by the border."""
    rows, columns = (-(-(n - 3) // 2) + 1 for n in x.shape[:2])
    return np.array(
        [
            [x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(columns)]
            for i in range(rows)
        ]
    )


def block(x, params, statistics, stride, kind):
    """A block; of the reductions the branch of one 1 x 1 convolution is left out."""

    def run(y, names, last=1):
        for name in names:
            step = last if name == names[-1] else 1
            y = convolve(y, params[name], statistics[name], step)
        return y

    if stride == 2:
        return [
            run(x, ["branch1_conv1", "branch1_conv2"], 2),
            run(x, ["branch2_conv1", "branch2_conv2", "branch2_conv3"], 2),
            reduced(x),
        ]
    return [
        run(x, ["branch1_conv1"]),
        run(x, ["branch2_conv1", "branch2_conv2"]),
        run(x, ["branch3_conv1", "branch3_conv2", "branch3_conv3"]),
        run(pooled(x, kind), ["branch4_conv2"]),
    ]


@pytest.fixture(scope="module")
def network():
    with jax.enable_x64(True):
        model = models.create(
            "inception_v2", width_factor=1 / 16, dtype="float64", param_dtype="float64"
        )
        images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 96, 128, 3)))
        variables = variables_of(model, images)
        run = jax.jit(lambda v, x: model.apply(v, x, mutable=["intermediates"]))
        _, state = run(variables, images)
        return jax.device_get((variables, state["intermediates"]))


@pytest.mark.parametrize(
    ("before", "name", "stride", "kind"),
    [
        ("stage1_block1", "stage1_block2", 1, AVERAGE),
        ("stage1_block2", "stage1_transition", 2, None),
        ("stage2_block4", "stage2_transition", 2, None),
        ("stage3_block1", "stage3_block2", 1, LARGEST),
    ],
)
def test_blocks_by_hand(network, before, name, stride, kind):
    variables, seen = network
    x = seen[before]["output"][0][0]
    parts = block(x, variables["params"][name], variables["batch_stats"][name], stride, kind)
    found = seen[name]["output"][0][0]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=-1), rtol=0, atol=1e-10)
