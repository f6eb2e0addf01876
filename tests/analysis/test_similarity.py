"""Centred kernel alignment of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variables import variables_of

from vitjax import models
from vitjax.analysis import similarity
from vitjax.core.errors import ConfigError


def layers(count=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5))
    return x, x @ rng.normal(size=(5, 7)) + 0.5 * rng.normal(size=(count, 7))


def by_loops(k, l):  # noqa: E741
    """The unbiased criterion as sums over distinct examples: Song et al. 2012, Theorem 3."""
    n = len(k)
    first = second = third = 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            first += k[i, j] * l[i, j]
            for q in range(n):
                if q in (i, j):
                    continue
                third += k[i, j] * l[i, q]
                for r in range(n):
                    if r not in (i, j, q):
                        second += k[i, j] * l[q, r]
    first /= n * (n - 1)
    second /= n * (n - 1) * (n - 2) * (n - 3)
    third /= n * (n - 1) * (n - 2)
    return first + second - 2 * third


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_the_criterion_is_that_of_loops_over_distinct_examples(kernel):
    x, y = layers(7)
    with jax.enable_x64(True):
        k, l = (np.asarray(similarity.gram(jnp.asarray(each), kernel)) for each in (x, y))  # noqa: E741
        found = similarity.hsic(k[None], l[None])
    np.testing.assert_allclose(found, [[by_loops(k, l)]], rtol=1e-9)


def test_the_width_of_a_kernel_is_relative_to_the_median_distance():
    x, _ = layers()
    found = np.asarray(similarity.gram(jnp.asarray(x), "rbf"))
    far = np.linalg.norm(x[:, None] - x[None], axis=-1)
    median = np.median((far**2)[np.triu_indices(12, 1)])
    np.testing.assert_allclose(found, np.exp(-(far**2) / (0.5 * median)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_rotation_and_scale_change_nothing(kernel):
    x, y = layers()
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    with jax.enable_x64(True):
        value = float(similarity.cka(jnp.asarray(x), jnp.asarray(y), kernel))
        other = float(similarity.cka(jnp.asarray(3 * x @ rotation), jnp.asarray(y), kernel))
        same = float(similarity.cka(jnp.asarray(x), jnp.asarray(x @ rotation), kernel))
    np.testing.assert_allclose([other, same], [value, 1], rtol=1e-9)
    assert 0.2 < value < 1


def test_unrelated_layers_are_about_zero():
    rng = np.random.default_rng(0)
    values = [
        float(similarity.cka(*(jnp.asarray(rng.normal(size=(30, 6))) for _ in "ab")))
        for _ in range(40)
    ]
    assert abs(np.mean(values)) < 0.05


def test_networks_are_compared_over_batches():
    fields = {"stage_sizes": (1, 1), "width": 4, "stem": "cifar", "num_classes": 3}
    vit = {"width": 8, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    images = jnp.asarray(np.random.default_rng(0).normal(size=(20, 8, 8, 3)), jnp.float32)
    networks = []
    for name, each in (("resnet18", fields), ("vit_ti16", vit)):
        model = models.create(name, **each)
        networks.append(similarity.Network(model, variables_of(model, images[:1])))
    batches = [(images[i : i + 8], images[i : i + 8]) for i in (0, 8)]
    last = (images[16:18], images[16:18])  # too few
    own = similarity.compare(networks[0], networks[0], [*batches, last])
    assert own.first == own.second == ["stem", "stage1", "stage2", "representation"]
    assert own.examples == 16
    np.testing.assert_allclose(np.diag(own.cka), 1, rtol=1e-12)
    np.testing.assert_allclose(own.cka, own.cka.T, rtol=1e-9)
    both = similarity.compare(*networks, batches)
    assert both.second[0] == "tokens"
    assert both.cka.shape == (4, len(both.second))

    model, variables = networks[0].model, networks[0].variables
    first = model.apply(variables, images[:8], method="features")["stem"].reshape(8, -1)
    with pytest.raises(ConfigError, match="at least 4 images"):
        similarity.compare(networks[0], networks[0], [last])
    one = similarity.compare(networks[0], networks[0], batches[:1])
    second = model.headless().apply(
        {**variables, "params": model.split_head(variables["params"])[1]}, images[:8]
    )
    np.testing.assert_allclose(one.cka[0, -1], similarity.cka(first, second), rtol=1e-3)
