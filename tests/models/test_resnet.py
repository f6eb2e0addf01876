"""Residual networks: initialisation, stages, normalisation, options."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.nn.residual import ResidualBlock, pad_shortcut

SMALL = {"stage_sizes": (1, 1), "block": "basic", "width": 4, "stem": "cifar", "num_classes": 3}
IMAGES = jax.random.normal(jax.random.key(7), (4, 8, 6, 3))


def made(**fields):
    module = models.ResNet(**{**SMALL, **fields})
    return module, variables_of(module, IMAGES)


def run(module, variables, images=IMAGES, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def initial(**fields):
    module = models.ResNet(stage_sizes=(1, 1), width=32, num_classes=7, **fields)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.jit(module.init)(jax.random.key(0), images)
    return {k: np.asarray(v) for k, v in flatten_dict(variables["params"], sep="/").items()}


def test_initialisation_as_in_torchvision():
    flat = initial()
    for name, (size, features) in {
        "stem_conv": (7, 32),
        "stage2_block1/conv2": (3, 64),
        "stage2_block1/conv3": (1, 256),
        "stage2_block1/shortcut_conv": (1, 256),
    }.items():
        kernel = flat[f"{name}/kernel"]
        # He: variance two over the outputs; normal, so that some lie beyond three deviations.
        deviation = np.sqrt(2 / (size * size * features))
        assert kernel.shape[:2] == (size, size)
        assert kernel.shape[3] == features
        np.testing.assert_allclose(kernel.std(), deviation, rtol=0.05)
        assert np.abs(kernel).max() > 3 * deviation
    limit = 256**-0.5
    for name in ("head/kernel", "head/bias"):
        assert np.abs(flat[name]).max() <= limit
    assert np.abs(flat["head/kernel"]).max() > 0.99 * limit
    np.testing.assert_allclose(flat["head/kernel"].std(), limit / np.sqrt(3), rtol=0.05)
    assert flat["head/bias"].std() > 0.2 * limit
    for name, value in flat.items():
        if name.endswith("scale"):
            assert (value == 1).all()
        if "norm" in name and name.endswith("bias"):
            assert not value.any()


def test_initialisation_of_bit():
    bit = models.create("bit_r50x1")
    names = ("preactivation", "norm", "standardize_epsilon", "conv_init", "head_init")
    flat = initial(**{name: getattr(bit, name) for name in names})
    kernel = flat["stage2_block1/conv2/kernel"]
    np.testing.assert_allclose(kernel.std(), (9 * 64) ** -0.5, rtol=0.05)
    assert not flat["head/kernel"].any()
    assert not flat["head/bias"].any()


@pytest.mark.parametrize("preactivation", [False, True])
def test_a_branch_that_starts_at_zero(preactivation):
    module = models.ResNet(
        **{**SMALL, "stage_sizes": (2,)}, preactivation=preactivation, zero_init_residual=True
    )
    variables = jax.jit(module.init)(jax.random.key(0, impl="unsafe_rbg"), IMAGES)
    _, state = run(module, variables, mutable=("intermediates",))
    # With the same shape before and after, the whole block is then the identity.
    found = state["intermediates"]
    block = found["stage1_block2"]["output"][0]
    np.testing.assert_array_equal(found["stage1_block1"]["output"][0], block)
    assert np.abs(block).max() > 0


@pytest.mark.parametrize("preactivation", [False, True])
def test_stages_and_intermediates(preactivation):
    module, variables = made(preactivation=preactivation)
    logits, state = run(module, variables, mutable=("intermediates",))
    found = {k: v[0] for k, v in flatten_dict(state["intermediates"], sep="/").items()}
    assert {k: v.shape for k, v in found.items()} == {
        "stem": (4, 8, 6, 4),
        "stage1": (4, 8, 6, 4),
        "stage2": (4, 4, 3, 8),
        "stage1_block1/output": (4, 8, 6, 4),
        "stage2_block1/output": (4, 4, 3, 8),
        "pooled": (4, 8),
        "logits": (4, 3),
    }
    np.testing.assert_array_equal(found["logits"], logits)
    stages = run(module, variables, method="features")
    for name, value in stages.items():
        np.testing.assert_allclose(value, found[name], rtol=1e-5, atol=1e-6)
    pooled = run(module.clone(num_classes=None), variables)
    np.testing.assert_allclose(pooled, found["pooled"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled, stages["stage2"].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_as_the_backbone_of_another_module():
    class Backbone(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            encoder = models.ResNet(**{**SMALL, "num_classes": None}, name="encoder")
            return encoder.features(images, train)["stage1"]

    shapes = jax.eval_shape(Backbone().init, jax.random.key(0), IMAGES)
    assert set(shapes["params"]) == {"encoder"}
    assert "head" not in shapes["params"]["encoder"]


@pytest.mark.parametrize("preactivation", [False, True])
def test_batch_statistics_over_an_axis_equal_those_of_the_whole_batch(preactivation):
    whole, variables = made(preactivation=preactivation)
    logits, state = run(whole, variables, train=True, mutable=("batch_stats",))
    parts = IMAGES.reshape(2, 2, *IMAGES.shape[1:])

    def apply(axis_name):
        module = whole.clone(axis_name=axis_name)
        return jax.jit(
            jax.vmap(
                lambda x: module.apply(variables, x, train=True, mutable=["batch_stats"]),
                axis_name="devices",
            )
        )(parts)

    split_logits, split_state = apply("devices")
    np.testing.assert_allclose(split_logits.reshape(4, 3), logits, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(split_state), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, np.stack([b, b]), rtol=1e-4, atol=1e-5)
    local_logits, _ = apply(None)
    assert np.abs(local_logits.reshape(4, 3) - logits).max() > 1e-3


def test_running_statistics():
    module, variables = made()
    stats = variables["batch_stats"]["stem_norm"]
    _, state = run(module, variables, train=True, mutable=("batch_stats",))
    kernel = variables["params"]["stem_conv"]["kernel"]
    x = jax.lax.conv_general_dilated(
        IMAGES, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = state["batch_stats"]["stem_norm"]
    for name, batch in (("mean", x.mean((0, 1, 2))), ("var", x.var((0, 1, 2)))):
        expected = 0.9 * stats[name] + 0.1 * batch
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)
    # Out of training, the running statistics are read and each example stands for itself.
    alone = run(module, variables, IMAGES[:1])
    np.testing.assert_allclose(alone, run(module, variables)[:1], rtol=1e-5, atol=1e-6)


def test_group_norm_knows_no_batch():
    module, variables = made(norm="group", norm_groups=2)
    assert set(variables) == {"params"}
    np.testing.assert_array_equal(run(module, variables), run(module, variables, train=True))


def test_weight_standardisation_ignores_scale_and_shift_of_kernels():
    module, variables = made(norm="group", norm_groups=2, standardize_epsilon=1e-10)
    plain = module.clone(standardize_epsilon=None)
    moved = jax.tree_util.tree_map_with_path(
        lambda path, x: 3 * x + 0.1 if path[-1].key == "kernel" and x.ndim == 4 else x, variables
    )
    np.testing.assert_allclose(run(module, moved), run(module, variables), rtol=1e-3, atol=1e-4)
    assert np.abs(run(plain, moved) - run(plain, variables)).max() > 1e-3


def test_stems_and_shortcuts():
    module, variables = made(stem="imagenet", stage_sizes=(1, 1, 1))
    stages = jax.eval_shape(
        lambda v: module.apply(v, jnp.zeros((1, 64, 64, 3)), method="features"), variables
    )
    sides = {name: value.shape[1] for name, value in stages.items()}
    assert sides == {"unpooled": 32, "stem": 16, "stage1": 16, "stage2": 8, "stage3": 4}
    assert variables["params"]["stem_conv"]["kernel"].shape == (7, 7, 3, 4)
    assert "shortcut_conv" in variables["params"]["stage2_block1"]
    _, variables = made(shortcut="pad")
    assert "shortcut_conv" not in variables["params"]["stage2_block1"]
    x = np.arange(1, 17.0).reshape(1, 4, 4, 1)
    padded = np.asarray(pad_shortcut(jnp.asarray(x), 4, 2))
    np.testing.assert_array_equal(padded[0, :, :, 1], [[1, 3], [9, 11]])
    assert not padded[..., [0, 2, 3]].any()


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_plain_network_is_a_sequence_of_layers(block):
    module, variables = made(shortcut="none", stage_sizes=(2, 1), block=block)
    flat = flatten_dict(variables, sep="/")
    assert not any("shortcut" in name for name in flat)

    def layer(x, conv, norm, stride):
        kernel = flat[f"params/{conv}/kernel"]
        pad = [((side - 1) // 2,) * 2 for side in kernel.shape[:2]]
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, var = (flat[f"batch_stats/{norm}/{each}"] for each in ("mean", "var"))
        scale, bias = (flat[f"params/{norm}/{each}"] for each in ("scale", "bias"))
        return jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-5) * scale + bias)

    x = layer(IMAGES, "stem_conv", "stem_norm", 1)
    layers = (1, 2) if block == "basic" else (1, 2, 3)
    for name in ("stage1_block1", "stage1_block2", "stage2_block1"):
        for i in layers:
            halves = name == "stage2_block1" and i == len(layers) - 1
            x = layer(x, f"{name}/conv{i}", f"{name}/norm{i}", 2 if halves else 1)
    expected = x.mean((1, 2)) @ flat["params/head/kernel"] + flat["params/head/bias"]
    np.testing.assert_allclose(run(module, variables), expected, rtol=1e-4, atol=1e-5)


def test_a_plain_pre_activation_block_is_its_branch():
    module, variables = made(shortcut="none", preactivation=True)
    residual, state = run(module.clone(shortcut="pad"), variables, mutable="intermediates")
    found, plain = run(module, variables, mutable="intermediates")
    stem = state["intermediates"]["stem"][0]
    blocks = [each["intermediates"]["stage1_block1"]["output"][0] for each in (state, plain)]
    np.testing.assert_allclose(blocks[0] - stem, blocks[1], rtol=1e-4, atol=1e-5)
    assert np.abs(found - residual).max() > 1e-3


@pytest.mark.parametrize(("depth", "projections"), [(18, 173_824), (34, 173_824), (110, 0)])
def test_plain_networks_have_the_layers_of_residual_ones(depth, projections):
    plain, residual = (models.count_parameters(f"{name}{depth}") for name in ("plain", "resnet"))
    # Those of 1 x 1 convolutions and their normalisations: arXiv:1512.03385, Sec. 3.3, option B.
    widths = [(64, 128), (128, 256), (256, 512)]
    assert sum(a * b + 2 * b for a, b in widths) == 173_824
    assert residual - plain == projections


def test_dtypes():
    module, variables = made(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, state = run(module, variables, mutable=("intermediates",))
    assert logits.dtype == jnp.float32
    assert state["intermediates"]["stage2"][0].dtype == jnp.bfloat16
    exact = run(module.clone(dtype="float32"), variables)
    np.testing.assert_allclose(logits, exact, rtol=0.05, atol=0.05)
    _, state = run(module, variables, train=True, mutable=("batch_stats",))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_the_sum_of_a_block_has_the_derivatives_of_relu():
    """PyTorch and `jax.nn.relu` have the derivative 0 at 0; a branch of zeros meets many."""
    block = ResidualBlock(
        features=3,
        inner=3,
        stride=1,
        bottleneck=False,
        shortcut="pad",
        zero_init=True,
        conv=lambda features, *_, name: lambda x: 0 * x,
        norm=lambda name, scale_init: lambda x: x,
    )
    x = jnp.asarray([-1.0, 0.0, 2.0]).reshape(1, 1, 1, 3)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(block.apply({}, x))))(x)
    np.testing.assert_array_equal(slope.ravel(), [0, 0, 1])
