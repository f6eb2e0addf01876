"""BL-net and its feed-forward controls against an independent implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.objectives import Classification

WIDTHS = (96, 128, 192, 256, 512, 1024, 2048)
KERNELS = (7, 5, 3, 3, 3, 3, 1)
FIELDS = {"widths": (4, 5), "kernel_sizes": (3, 1), "num_classes": 3, "time_steps": 3}
WIDE = {"dtype": "float64", "param_dtype": "float64"}


def counted(widths=WIDTHS, kernels=KERNELS, repeats=1, lateral=False, steps=1):
    """Parameters for three channels and 1000 classes, by the layers of the paper."""
    total, inputs = 0, 3
    for width, side in zip(widths, kernels, strict=True):
        further = repeats - 1 + lateral
        total += side**2 * width * (inputs + further * width) + 2 * width * max(repeats, steps)
        inputs = width
    return total + (inputs + 1) * 1000


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bl_net", {"lateral": True, "steps": 8}),
        ("b_net", {}),
        ("b_k_net", {"kernels": (11, 7, 5, 5, 5, 5, 3)}),
        ("b_f_net", {"widths": [2 * width for width in WIDTHS]}),
        ("b_d_net", {"repeats": 2}),
    ],
)
def test_parameters_are_those_of_the_layers_in_the_paper(name, arguments):
    assert models.count_parameters(name) == counted(**arguments)


def made(name, shape=(2, 6, 4, 3), **fields):
    """A model in float64, variables that differ from the initial ones, and images."""
    generator = np.random.default_rng(0)
    model = models.create(name, **FIELDS | fields, **WIDE)
    images = generator.normal(size=shape)
    variables = flatten_dict(jax.device_get(model.init(jax.random.key(0), images)), sep="/")
    variables = {
        each: generator.uniform(0.5, 1.5, x.shape)
        if each.endswith(("var", "scale"))
        else generator.normal(size=x.shape)
        for each, x in variables.items()
    }
    return model, variables, images


def convolved(x, kernel):
    """A convolution with zeros around, by its definition."""
    pad = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            moved = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
            out += moved @ kernel[row, column]
    return out


def normalised(x, variables, name, train):
    mean, var = (variables[f"batch_stats/{name}/{leaf}"] for leaf in ("mean", "var"))
    if train:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    scale, bias = (variables[f"params/{name}/{leaf}"] for leaf in ("scale", "bias"))
    return (x - mean) / np.sqrt(var + 1e-3) * scale + bias


def pooled(x):
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, -1).max((2, 4))


def recurrent(variables, images, steps, train):
    """The states of both layers and the logits of each step."""
    states, logits, before = [], [], [None, None]
    for step in range(1, steps + 1):
        x, now = images, []
        for number, last in enumerate(before):
            name = f"stage{number + 1}_block1"
            x = convolved(
                pooled(x) if number else x, variables[f"params/{name}/bottom_up_conv/kernel"]
            )
            if last is not None:
                x = x + convolved(last, variables[f"params/{name}/lateral_conv/kernel"])
            x = np.maximum(normalised(x, variables, f"{name}/norm{step}", train), 0)
            now.append(x)
        states.append(now)
        before = now
        head = variables["params/head/kernel"], variables["params/head/bias"]
        logits.append(x.mean((1, 2)) @ head[0] + head[1])
    return states, np.stack(logits)


@pytest.mark.parametrize("train", [False, True])
def test_two_layers_over_three_steps(train):
    with jax.enable_x64():
        model, variables, images = made("bl_net")
        states, logits = recurrent(variables, images, 3, train)
        mutable = ["intermediates", *(["batch_stats", "auxiliary"] if train else [])]
        tree = unflatten_dict(variables, sep="/")
        found, state = model.apply(tree, images, train=train, mutable=mutable)
        np.testing.assert_allclose(found, logits[-1], rtol=0, atol=1e-9)
        for step in (1, 2, 3):
            for number in (0, 1):
                seen = state["intermediates"][f"stage{number + 1}_block1"][f"step{step}"][0]
                np.testing.assert_allclose(seen, states[step - 1][number], rtol=0, atol=1e-9)
        if not train:
            over_time = model.apply(tree, images, method="logits_over_time")
            np.testing.assert_allclose(over_time, logits, rtol=0, atol=1e-9)
            return
        assert set(state["auxiliary"]) == set(model.auxiliary_logits) == {"step1", "step2"}
        for name, expected in zip(("step1", "step2"), logits, strict=False):
            np.testing.assert_allclose(state["auxiliary"][name], expected, rtol=0, atol=1e-9)
        # Each step has running statistics of its own, with TensorFlow's momentum.
        mean = convolved(images, variables["params/stage1_block1/bottom_up_conv/kernel"]).mean(
            (0, 1, 2)
        )
        kept = 0.99 * variables["batch_stats/stage1_block1/norm1/mean"] + 0.01 * mean
        seen = state["batch_stats"]["stage1_block1"]["norm1"]["mean"]
        np.testing.assert_allclose(seen, kept, rtol=0, atol=1e-9)


def test_the_cumulative_readout_is_the_sum_of_the_logits_in_evaluation_alone():
    with jax.enable_x64():
        model, variables, images = made("bl_net")
        tree = unflatten_dict(variables, sep="/")
        _, logits = recurrent(variables, images, 3, train=False)
        cumulative = model.clone(readout="cumulative")
        over_time = cumulative.apply(tree, images, method="logits_over_time")
        np.testing.assert_allclose(over_time, np.cumsum(logits, axis=0), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(cumulative.apply(tree, images), over_time[-1])
        _, trained = recurrent(variables, images, 3, train=True)
        found, _ = cumulative.apply(tree, images, train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(found, trained[-1], rtol=0, atol=1e-9)
    with pytest.raises(ConfigError, match="the head alone reads the last time step"):
        cumulative.only_head({"head": tree["params"]["head"]})


def test_controls_are_layers_without_time():
    with jax.enable_x64():
        fields = {**FIELDS, "repeats": 2}
        del fields["time_steps"]
        generator = np.random.default_rng(0)
        images = generator.normal(size=(2, 6, 4, 3))
        model = models.create("b_net", **fields, **WIDE)
        tree = model.init(jax.random.key(0), images)
        variables = flatten_dict(jax.device_get(tree), sep="/")
        x = images
        for stage in (1, 2):
            x = pooled(x) if stage > 1 else x
            for block in (1, 2):
                name = f"stage{stage}_block{block}"
                x = convolved(x, variables[f"params/{name}/conv/kernel"])
                x = np.maximum(normalised(x, variables, f"{name}/norm", False), 0)
        expected = x.mean((1, 2)) @ variables["params/head/kernel"]
        np.testing.assert_allclose(model.apply(tree, images), expected, rtol=0, atol=1e-9)


def test_one_step_without_lateral_connections_is_the_control():
    bl_net = models.create("bl_net", **FIELDS | {"time_steps": 1})
    shapes = [
        sorted(leaf.shape for leaf in jax.tree.leaves(variables["params"]))
        for variables in (
            jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
            for model in (
                bl_net,
                models.create("b_net", **{k: FIELDS[k] for k in list(FIELDS)[:3]}),
            )
        )
    ]
    assert shapes[0] == shapes[1]
    assert bl_net.auxiliary_logits == {}


def test_initial_values_are_those_of_the_authors_code():
    model = models.create("bl_net", **FIELDS | {"widths": (64, 64), "kernel_sizes": (3, 3)})
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    limits = {
        "stage1_block1/bottom_up_conv/kernel": np.sqrt(6 / (9 * (3 + 64))),
        "stage2_block1/lateral_conv/kernel": np.sqrt(6 / (9 * (64 + 64))),
        "head/kernel": np.sqrt(6 / (64 + 3)),
    }
    found = flatten_dict(params, sep="/")
    for name, limit in limits.items():
        assert 0.95 * limit < np.abs(found[name]).max() <= limit
    assert not np.any(found["head/bias"])


def test_each_stage_needs_a_width_and_a_kernel():
    with pytest.raises(ConfigError, match="kernel_sizes has 7 entries for 2 widths"):
        models.create("bl_net", widths=(4, 5))
    assert models.create("bl_net").smallest_image == 64


def test_training_sums_the_losses_of_all_steps():
    with jax.enable_x64():
        model, variables, images = made("bl_net")
        _, logits = recurrent(variables, images, 3, train=True)
        labels = np.array([2, 0])
        log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        tree = unflatten_dict(variables, sep="/")
        batch = {"image": images, "label": labels, "mask": np.ones(2, bool)}
        objective = Classification(model=model, num_classes=3)
        loss, (state, metrics) = objective.loss(
            tree["params"], {"batch_stats": tree["batch_stats"]}, batch, jax.random.key(0)
        )
        losses = -log[:, np.arange(2), labels].mean(1)
        assert loss == pytest.approx(losses.sum(), abs=1e-9)
        assert metrics["loss_step1"].compute() == pytest.approx(losses[0], abs=1e-9)
        assert set(state) == {"batch_stats"}
