"""MLP: initialisation, inputs of any shape, normalisation, context, values that cannot be."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_variables import variables_of

from vitjax import models
from vitjax.core.errors import ConfigError

NUMBERS = jax.random.normal(jax.random.key(3), (8, 1))


def run(module, variables, inputs=NUMBERS, **keywords):
    return jax.jit(lambda v, x: module.apply(v, x, **keywords))(variables, inputs)


def initial(name, **fields):
    module = models.create(name, **fields)
    inputs = jnp.zeros((1, *models.input_shape(name)))
    variables = jax.jit(module.init)(jax.random.key(0, impl="unsafe_rbg"), inputs)
    return {k: np.asarray(v) for k, v in flatten_dict(variables["params"], sep="/").items()}


def test_counts_of_the_papers_networks():
    assert models.count_parameters("mlp_sinusoid") == 2 * 40 + 41 * 40 + 41
    # Five context parameters are five numbers, and five rows of the first layer.
    assert models.count_parameters("mlp_sinusoid", num_context=5) == 1761 + 5 + 5 * 40
    widths = (784, 256, 128, 64, 64, 5)
    dense = sum((a + 1) * b for a, b in itertools.pairwise(widths))
    assert models.count_parameters("mlp_omniglot") == dense + 2 * (256 + 128 + 64 + 64)


def test_initialisation():
    flat = initial("mlp_omniglot")
    for name in ("dense1", "dense4", "head"):
        kernel = flat[f"{name}/kernel"]
        # Cut off at two of 0.01; what is left has a deviation of 0.88 of them.
        assert np.abs(kernel).max() <= 0.02
        assert np.abs(kernel).max() > 0.018
        np.testing.assert_allclose(kernel.std(), 0.0088, rtol=0.1)
        assert not flat[f"{name}/bias"].any()
    flat = initial("mlp_omniglot", weight_init="uniform")
    for name, inputs in (("dense1", 784), ("dense4", 64), ("head", 64)):
        for leaf in (flat[f"{name}/kernel"], flat[f"{name}/bias"]):
            assert 0.5 * inputs**-0.5 < np.abs(leaf).max() <= inputs**-0.5


def test_by_hand():
    module = models.create("mlp_sinusoid")
    variables = variables_of(module, NUMBERS)
    outputs, state = run(module, variables, mutable=["intermediates"])
    params, x = variables["params"], NUMBERS
    for name in ("dense1", "dense2"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
        found = state["intermediates"][name.replace("dense", "hidden")][0]
        np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)
    features = run(module.clone(num_classes=0), variables)
    np.testing.assert_allclose(features, x, rtol=1e-4, atol=1e-5)
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    assert outputs.shape == (8, 1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_inputs_of_any_shape_are_flattened():
    images = jax.random.normal(jax.random.key(0), (4, 3, 2, 5))
    module = models.MLP(hidden=[6], num_classes=2)
    variables = variables_of(module, images)
    assert variables["params"]["dense1"]["kernel"].shape == (30, 6)
    flat = run(module, variables, images.reshape(4, 30))
    np.testing.assert_allclose(run(module, variables, images), flat, rtol=1e-5)
    with pytest.raises(models.ImageError, match=r"28 features.*'dense1' were made for 30"):
        module.apply(variables, jnp.zeros((4, 28)))
    with pytest.raises(models.ImageError, match=r"shape \(4,\).*\(batch, \.\.\.\)"):
        module.apply(variables, jnp.zeros(4))
    with pytest.raises(models.ImageError, match="int32"):
        module.apply(variables, jnp.zeros((4, 30), jnp.int32))


def test_context_is_more_inputs():
    module = models.MLP(num_context=5)
    variables = variables_of(module, NUMBERS)
    assert not initial("mlp_sinusoid", num_context=5)["context"].any()
    params = variables["params"]
    beside = jnp.concatenate([NUMBERS, jnp.tile(params["context"], (8, 1))], axis=1)
    plain = module.clone(num_context=0)
    np.testing.assert_allclose(run(module, variables), run(plain, variables, beside), rtol=1e-5)
    # Zeros are as if the inputs stood alone.
    zero = {"params": {**params, "context": jnp.zeros(5)}}
    first = {**params["dense1"], "kernel": params["dense1"]["kernel"][:1]}
    alone = {"params": {**params, "dense1": first}}
    np.testing.assert_allclose(run(module, zero), run(plain, alone), rtol=1e-5)


def test_batch_and_running_statistics():
    module = models.MLP(hidden=(6, 4), norm="batch", num_classes=3)
    variables = variables_of(module, NUMBERS)
    logits, state = run(module, variables, train=True, mutable=["batch_stats"])
    old, new = variables["batch_stats"], state["batch_stats"]
    own = jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, old, new)
    again = run(module, {**variables, "batch_stats": own})
    np.testing.assert_allclose(again, logits, rtol=1e-3, atol=1e-4)
    assert np.abs(run(module, variables) - logits).max() > 1e-2


def test_dtypes():
    module = models.MLP(dtype="bfloat16", num_context=2)
    variables = variables_of(module, NUMBERS)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    outputs, state = run(module, variables, mutable=["intermediates"])
    assert outputs.dtype == jnp.float32
    assert state["intermediates"]["hidden1"][0].dtype == jnp.bfloat16
    assert run(module.clone(num_classes=None), variables).dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden": []}, r"hidden is \[\]; .* at least 1 item"),
        ({"hidden": [4, 0]}, r"hidden\[1\] is 0; it must be at least 1"),
        ({"activation": "softpluss"}, "did you mean 'softplus'"),
        ({"norm": "group", "norm_groups": 16}, "40 channels do not split"),
        ({"weight_init": "unifrom"}, "did you mean 'uniform'"),
        ({"num_context": -2}, "num_context is -2; it must be at least 0"),
        ({"filters": 3}, "unknown key 'filters'"),
    ],
)
def test_values_that_cannot_be(fields, words):
    with pytest.raises(ConfigError, match=words):
        models.create("mlp_sinusoid", **fields)
