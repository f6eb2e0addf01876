"""ResNet-12: counts, initialisation, stages, DropBlock, statistics, values that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.nn.drop import drop_block

IMAGES = jax.random.normal(jax.random.key(7), (4, 16, 20, 3))
SMALL = {"widths": (4, 6), "num_classes": 3}


def made(**fields):
    module = models.ResNet12(**{**SMALL, **fields})
    return module, variables_of(module, IMAGES)


def run(module, variables, images=IMAGES, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def test_counts():
    # MetaOptNet's network, which has no head, counted by its own code.
    assert models.count_parameters("resnet12", num_classes=0) == 12_424_320
    assert models.count_parameters("resnet12") == 12_424_320 + 5 * 641
    flattened = models.count_parameters("resnet12", pooling="flatten")
    assert flattened == 12_424_320 + 5 * (25 * 640 + 1)


def test_initialisation():
    module = models.ResNet12(widths=(32, 64), num_classes=40)
    variables = jax.jit(module.init)(jax.random.key(0, impl="unsafe_rbg"), IMAGES)
    flat = {k: np.asarray(v) for k, v in flatten_dict(variables["params"], sep="/").items()}
    for name, size in (("conv1", 3), ("conv3", 3), ("shortcut_conv", 1)):
        kernel = flat[f"stage2_block1/{name}/kernel"]
        deviation = np.sqrt(2 / (size * size * 64))
        np.testing.assert_allclose(kernel.std(), deviation, rtol=0.05)
        assert np.abs(kernel).max() > 3 * deviation
    assert not any("conv" in name and "bias" in name for name in flat)
    for leaf in ("kernel", "bias"):
        assert 0.06 < np.abs(flat[f"head/{leaf}"]).max() <= 64**-0.5
    assert flat["head/bias"].any()


def test_stages_and_features():
    module, variables = made()
    logits, state = run(module, variables, mutable=["intermediates"])
    found = {k: v[0] for k, v in state["intermediates"].items()}
    assert {k: v.shape for k, v in found.items()} == {
        "stage1": (4, 8, 10, 4),
        "stage2": (4, 4, 5, 6),
        "pooled": (4, 6),
        "logits": (4, 3),
    }
    np.testing.assert_array_equal(found["logits"], logits)
    np.testing.assert_allclose(found["pooled"], found["stage2"].mean((1, 2)), atol=1e-5)
    # What is below zero is a tenth of itself.
    assert found["stage1"].min() < 0
    features = run(module.clone(num_classes=None, pooling="flatten"), variables)
    np.testing.assert_allclose(features, found["stage2"].reshape(4, -1), atol=1e-5)


def test_forms_of_convolution_agree():
    module, variables = made(widths=(8, 8))
    expected = run(module, variables)
    found = run(module.clone(conv_impl="matmul"), variables)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_batch_and_running_statistics():
    module, variables = made()
    logits, state = run(module, variables, train=True, mutable=["batch_stats"])
    assert set(state["batch_stats"]["stage1_block1"]) == {
        *("norm1", "norm2", "norm3"),
        "shortcut_norm",
    }
    running = run(module, variables)
    assert np.abs(running - logits).max() > 1e-2
    np.testing.assert_allclose(run(module, variables, IMAGES[:1]), running[:1], atol=1e-5)


def test_what_is_dropped():
    module, variables = made(widths=(4, 4, 6), drop_rate=0.3, dropblock_size=2)

    def stages(seed, **fields):
        keywords = {"train": True, "mutable": ["intermediates", "batch_stats"]}
        if seed is not None:
            keywords["rngs"] = {"dropout": jax.random.key(seed)}
        _, state = run(module.clone(**fields), variables, **keywords)
        return {k: np.asarray(v[0]) for k, v in state["intermediates"].items()}

    dropped, kept = stages(0), stages(None, drop_rate=0.0)
    for stage in ("stage1", "stage2", "stage3"):
        assert (kept[stage] != 0).all()
        assert 0.1 < (dropped[stage] == 0).mean() < 0.5
    alive = dropped["stage1"] != 0
    np.testing.assert_allclose(dropped["stage1"][alive], kept["stage1"][alive] / 0.7, rtol=1e-4)
    np.testing.assert_array_equal(stages(0)["stage3"], dropped["stage3"])
    assert (stages(1)["stage3"] != dropped["stage3"]).any()
    # Nothing is dropped out of training, and no key is wanted.
    plain = run(module.clone(drop_rate=0.0), variables)
    np.testing.assert_allclose(run(module, variables), plain, rtol=1e-5, atol=1e-6)


def test_drop_block_drops_squares_and_keeps_the_sum():
    drop = jax.jit(drop_block, static_argnums=(1, 2))
    x = jnp.ones((64, 10, 12, 3))
    out = np.asarray(drop(x, 0.2, 3, jax.random.key(0)))
    zero = out == 0
    assert 0.12 < zero.mean() < 0.2
    # Every zero lies in a square of zeros of three by three within the image.
    window = np.lib.stride_tricks.sliding_window_view(zero, (3, 3), axis=(1, 2)).all((-1, -2))
    covered = np.zeros_like(zero)
    for i in range(3):
        for j in range(3):
            covered[:, i : i + 8, j : j + 10] |= window
    np.testing.assert_array_equal(covered, zero)
    np.testing.assert_allclose(out.sum(), x.size, rtol=1e-5)
    assert np.unique(out[~zero]).size == 1
    # Each channel has its own squares.
    assert (zero[..., 0] != zero[..., 1]).any()
    # Squares as large as the image drop all of a channel or nothing.
    whole = np.asarray(drop(x[:, :4, :3], 0.5, 7, jax.random.key(1))) == 0
    np.testing.assert_array_equal(whole.all((1, 2)), whole.any((1, 2)))
    assert 0.4 < whole.mean() < 0.6
    assert drop_block(x, 0.2, 3, None) is x
    # When all is dropped, there is nothing to scale.
    assert np.isfinite(drop(x[:1, :2, :2, :1], 0.999, 2, jax.random.key(0))).all()


def test_dtypes():
    module, variables = made(dtype="bfloat16")
    logits, state = run(module, variables, mutable=["intermediates"])
    assert logits.dtype == jnp.float32
    assert state["intermediates"]["stage2"][0].dtype == jnp.bfloat16
    x = jnp.ones((2, 6, 6, 1), jnp.bfloat16)
    dropped = jax.eval_shape(lambda x: drop_block(x, 0.2, 3, jax.random.key(0)), x)
    assert dropped.dtype == jnp.bfloat16


def test_sizes_that_cannot_be():
    module, variables = made(pooling="flatten")
    with pytest.raises(models.ImageError, match=r"24 features.*'head' were made for 120"):
        module.apply(variables, jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(models.ImageError, match=r"12 x 16 pixels.*halved 4 times.*at least 16"):
        models.ResNet12().init(jax.random.key(0), jnp.zeros((1, 12, 16, 3)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"widths": [64, 0]}, r"widths\[1\] is 0"),
        ({"pooling": "max"}, "'flatten' or 'mean'"),
        ({"conv_impl": "matmull"}, "did you mean 'matmul'"),
        ({"drop_rate": 1.0}, r"drop_rate is 1.0; it must be in \[0, 1\)"),
        ({"dropblock_size": 0}, "dropblock_size is 0"),
        ({"droprate": 0.1}, "did you mean 'drop_rate'"),
        ({"dtype": "int8"}, "must be a floating dtype"),
    ],
)
def test_values_that_cannot_be(fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create("resnet12", **fields)
