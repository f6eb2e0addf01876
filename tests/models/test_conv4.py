"""Conv4: padding, initialisation, normalisation, context, sizes and values that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.nn.conv import pads

IMAGES = jax.random.normal(jax.random.key(7), (6, 12, 8, 3))
SMALL = {"filters": 4, "depth": 2, "num_classes": 3, "context_block": 1}
STRIDED = {"downsample": "stride", "pooling": "mean"}


def made(images=IMAGES, **fields):
    module = models.Conv4(**{**SMALL, **fields})
    return module, variables_of(module, images)


def run(module, variables, images=IMAGES, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, images)


def initial(name, **fields):
    module = models.create(name, **fields)
    images = jnp.zeros((1, *models.input_shape(name)))
    variables = jax.jit(module.init)(jax.random.key(0, impl="unsafe_rbg"), images)
    return {k: np.asarray(v) for k, v in flatten_dict(variables["params"], sep="/").items()}


def test_counts_of_the_papers_networks():
    # Without the head, and miniImageNet's with the head for five classes.
    for name in ("conv4_omniglot", "conv4_omniglot_pooled"):
        assert models.count_parameters(name, num_classes=0) == 111_936
    assert models.count_parameters("conv4") == 32_901
    assert models.count_parameters("conv4", num_classes=0) == 32_901 - 5 * 801
    # A context of n is n numbers, and n + 1 rows for a scale and a shift of each channel.
    assert models.count_parameters("conv4", num_context=100) == 32_901 + 100 + 101 * 64


@pytest.mark.parametrize("name", ["conv4", "conv4_omniglot"])
def test_initialisation(name):
    flat = initial(name)
    for i in (1, 4):
        kernel = flat[f"conv{i}/kernel"]
        limit = np.sqrt(6 / (9 * sum(kernel.shape[2:])))
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.06)
    for key, value in flat.items():
        if key.endswith("bias"):
            assert not value.any()
        if key.endswith("scale"):
            assert (value == 1).all()
    head = flat["head/kernel"]
    if name == "conv4":
        limit = np.sqrt(6 / (800 + 5))
        assert head.shape == (800, 5)
        assert 0.99 * limit < np.abs(head).max() <= limit
    else:
        assert head.shape == (64, 5)
        assert 0.85 < head.std() < 1.15
        assert np.abs(head).max() > 2
    assert not initial(name, head_init="zeros")["head/kernel"].any()


@pytest.mark.parametrize("side", [28, 14, 7, 4, 3, 1])
def test_strides_pad_as_tensorflow_does(side):
    x = jax.random.normal(jax.random.key(0), (2, side, 9, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 3))

    def conv(x, padding):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    # XLA's "SAME" is TensorFlow's.
    expected = conv(x, "SAME")
    assert expected.shape[1:3] == ((side + 1) // 2, 5)
    np.testing.assert_allclose(
        conv(x, pads("same", (3, 3), (2, 2), x.shape[1:3])), expected, atol=1e-5
    )
    if side % 2 == 0:
        symmetric = conv(x, [(1, 1), (1, 1)])
        assert np.abs(symmetric - expected).max() > 0.1


def test_shapes_of_the_papers_blocks():
    for name, sides, width in (
        ("conv4", (42, 21, 10, 5), 800),
        ("conv4_omniglot", (14, 7, 4, 2), 64),
        ("conv4_omniglot_pooled", (14, 7, 3, 1), 64),
    ):
        module = models.create(name)
        images = jnp.zeros((2, *models.input_shape(name)))
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
        logits, state = jax.eval_shape(
            lambda v, x, module=module: module.apply(v, x, mutable=["intermediates"]),
            variables,
            images,
        )
        found = {k: v[0].shape for k, v in state["intermediates"].items()}
        filters = module.filters
        assert found == {
            **{f"block{i}": (2, side, side, filters) for i, side in enumerate(sides, start=1)},
            "pooled": (2, width),
            "logits": (2, 5),
        }
        assert logits.shape == (2, 5)


def test_without_a_head_the_features():
    module, variables = made()
    _, state = run(module, variables, mutable=["intermediates"])
    features = run(module.clone(num_classes=None), variables)
    assert features.shape == (6, 3 * 2 * 4)
    np.testing.assert_allclose(features, state["intermediates"]["pooled"][0], rtol=1e-5)


@pytest.mark.parametrize("fields", [{}, STRIDED])
def test_batch_and_running_statistics(fields):
    module, variables = made(**fields)
    logits, state = run(module, variables, train=True, mutable=["batch_stats"])
    # The batch's own statistics, put in the place of the running ones, give the same.
    old, new = variables["batch_stats"], state["batch_stats"]
    own = jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, old, new)
    again = run(module, {**variables, "batch_stats": own})
    np.testing.assert_allclose(again, logits, rtol=1e-3, atol=1e-4)
    running = run(module, variables)
    assert np.abs(running - logits).max() > 1e-2
    # Out of training each example stands for itself; in training it does not.
    np.testing.assert_allclose(run(module, variables, IMAGES[:2]), running[:2], atol=1e-5)
    alone, _ = run(module, variables, IMAGES[:2], train=True, mutable=["batch_stats"])
    assert np.abs(alone - logits[:2]).max() > 1e-2


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_other_normalisations_know_no_batch(norm):
    module, variables = made(norm=norm, norm_groups=2)
    assert set(variables) == {"params"}
    assert ("norm1" in variables["params"]) == (norm != "none")
    logits = run(module, variables)
    np.testing.assert_array_equal(logits, run(module, variables, train=True))
    np.testing.assert_allclose(run(module, variables, IMAGES[:1]), logits[:1], atol=1e-5)


def test_epsilon_is_that_of_the_reference():
    module, variables = made(norm="layer")
    quiet = {"params": {**variables["params"]}}
    # Features so small that their variance is as small as what is added to it.
    quiet["params"]["conv1"] = jax.tree.map(lambda x: 1e-2 * x, quiet["params"]["conv1"])
    other = run(module.clone(norm_epsilon=1e-5), quiet)
    assert module.norm_epsilon == 1e-3
    assert np.abs(run(module, quiet) - other).max() > 1e-2


def test_pooling_before_a_rising_activation_is_pooling_after_it():
    module, variables = made(depth=1)
    _, state = run(module, variables, mutable=["intermediates"])
    params, stats = variables["params"], variables["batch_stats"]["norm1"]
    x = jax.lax.conv_general_dilated(
        IMAGES,
        params["conv1"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = x + params["conv1"]["bias"] - stats["mean"]
    x = x / jnp.sqrt(stats["var"] + 1e-3) * params["norm1"]["scale"] + params["norm1"]["bias"]
    x = jax.nn.relu(x).reshape(6, 6, 2, 4, 2, 4).max((2, 4))
    np.testing.assert_allclose(state["intermediates"]["block1"][0], x, atol=1e-5)


def test_context_starts_at_zero_and_its_layer_as_in_cavia():
    flat = initial("conv4", num_context=100)
    assert flat["context"].shape == (100,)
    assert not flat["context"].any()
    for name, limit in (("film/kernel", np.sqrt(3 / 100)), ("film/bias", 0.1)):
        assert 0.9 * limit < np.abs(flat[name]).max() <= limit
        assert flat[name].min() < 0 < flat[name].max()


@pytest.mark.parametrize("fields", [{}, STRIDED])
def test_context_scales_and_shifts_channels(fields):
    module, variables = made(**fields, num_context=5, context_block=2)
    plain = module.clone(num_context=0)
    params = variables["params"]

    def logits(film, context):
        changed = {**params, "film": film, "context": context}
        return run(module, {**variables, "params": changed})

    # With a kernel of zeros or a context of zeros, the bias alone says scale and shift. A scale of
    # one and a shift of zero leave the network as it is without a context.
    zeros, ones = jnp.zeros(4), jnp.ones(4)
    neutral = {"kernel": params["film"]["kernel"], "bias": jnp.concatenate([ones, zeros])}
    without = run(plain, variables)
    np.testing.assert_allclose(logits(neutral, jnp.zeros(5)), without, atol=1e-6)
    assert np.abs(logits(neutral, params["context"]) - without).max() > 1e-2
    # A scale of zero and a shift leave the images nothing to say.
    shut = {"kernel": neutral["kernel"], "bias": jnp.concatenate([zeros, ones])}
    constant = logits(shut, jnp.zeros(5))
    np.testing.assert_allclose(constant, np.tile(constant[:1], (6, 1)), atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "gelu"])
def test_gradient_by_finite_differences(activation):
    with jax.enable_x64(True):
        module = models.Conv4(**SMALL, activation=activation, num_context=2, dtype="float64")
        module = module.clone(param_dtype="float64")
        images = IMAGES.astype(jnp.float64)
        variables = variables_of(module, images)

        def loss(params):
            logits, _ = module.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            assert logits.dtype == jnp.float64
            return jnp.sum(jnp.sin(logits))

        params = variables["params"]
        direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
        step = 1e-6
        ends = [jax.tree.map(lambda p, d, s=s: p + s * d, params, direction) for s in (step, -step)]
        gradient = jax.jit(jax.grad(loss))
        numeric = (jax.jit(loss)(ends[0]) - jax.jit(loss)(ends[1])) / (2 * step)
        products = jax.tree.map(jnp.vdot, gradient(params), direction)
        exact = sum(jax.tree.leaves(products))
        # ReLU's and max pooling's kinks are nowhere within the step, so all agree this well.
        np.testing.assert_allclose(numeric, exact, rtol=1e-6)


@pytest.mark.parametrize("fields", [{}, STRIDED])
def test_forms_of_convolution_agree(fields):
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 1))
    module, variables = made(images, **{**fields, "filters": 8})
    expected, _ = run(module, variables, images, train=True, mutable=["batch_stats"])
    found, _ = run(
        module.clone(conv_impl="matmul"), variables, images, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_axis_name():
    module, variables = made(**STRIDED)
    logits, _ = run(module, variables, train=True, mutable=["batch_stats"])
    split = jax.jit(
        jax.vmap(
            lambda x: module.clone(axis_name="tasks").apply(
                variables, x, train=True, mutable=["batch_stats"]
            )[0],
            axis_name="tasks",
        )
    )(IMAGES.reshape(2, 3, *IMAGES.shape[1:]))
    np.testing.assert_allclose(split.reshape(6, 3), logits, rtol=1e-4, atol=1e-5)


def test_dtypes():
    module, variables = made(dtype="bfloat16", num_context=3)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, state = run(module, variables, mutable=["intermediates"])
    assert logits.dtype == jnp.float32
    assert state["intermediates"]["pooled"][0].dtype == jnp.float32
    assert state["intermediates"]["block2"][0].dtype == jnp.bfloat16
    exact = run(module.clone(dtype="float32"), variables)
    np.testing.assert_allclose(logits, exact, rtol=0.1, atol=0.1)


def test_sizes_that_cannot_be():
    with pytest.raises(models.ImageError, match=r"8 x 12 pixels.*halved 4 times.*at least 16"):
        models.Conv4().init(jax.random.key(0), jnp.zeros((1, 8, 12, 3)))
    module, variables = made()
    with pytest.raises(models.ImageError, match=r"48 features.*'head' were made for 24.*'mean'"):
        module.apply(variables, jnp.zeros((1, 12, 16, 3)))
    module, variables = made(pooling="mean")
    assert module.apply(variables, jnp.zeros((1, 12, 16, 3))).shape == (1, 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"downsample": "strided"}, "did you mean 'stride'"),
        ({"stride_padding": "pytorh"}, "did you mean 'pytorch'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"pooling": "token"}, "'flatten' or 'mean'"),
        ({"conv_impl": "matmull"}, "did you mean 'matmul'"),
        ({"norm": "batc"}, "did you mean 'batch'"),
        ({"head_init": "xavir"}, "did you mean 'xavier'"),
        ({"norm": "group", "norm_groups": 3}, "32 channels do not split into norm_groups=3"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; it must be above 0"),
        ({"filters": 0}, "filters is 0; it must be at least 1"),
        ({"depth": 0}, "depth is 0"),
        ({"num_context": -1}, "num_context is -1"),
        ({"num_context": 2, "context_block": 5}, r"context_block=5: the blocks are 1 to 4"),
        ({"num_contexts": 2}, "did you mean 'num_context'"),
        ({"dtype": "float23"}, "did you mean 'float32'"),
    ],
)
def test_values_that_cannot_be(fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create("conv4", **fields)
