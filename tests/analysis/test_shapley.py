"""SHAP by the partition explainer, compared with values by enumeration."""

import importlib.util
import itertools
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.analysis import shapley
from vitjax.analysis.methods import METHODS
from vitjax.core.errors import ConfigError
from vitjax.models import Model

if importlib.util.find_spec("shap") is None:
    pytest.skip("the package shap is not installed", allow_module_level=True)


@pytest.fixture(autouse=True, scope="module")
def _without_compilation():
    """Numba compiles for ten seconds what takes a millisecond here."""
    config = importlib.import_module("numba").config
    before, config.DISABLE_JIT = config.DISABLE_JIT, True
    yield
    config.DISABLE_JIT = before


IMAGE = np.array([[0.3, -1.2], [2.0, 0.7]], np.float32)[None, ..., None]
# The partition explainer halves the rows first.
TREE = ((0, 1), (2, 3))
ROWS = np.array([[1.0, 0.5, -0.7, 0.2], [0.0, 0.4, 0.9, -0.3], [0.0, 0.0, 1.1, 0.6]])


class Pairs(Model):
    """Two logits: 0, and a sum over the pixels of an image and over pairs of them."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(len(x), -1)
        pairs = jnp.einsum("bi,ij,bj->b", x, jnp.asarray(ROWS.T @ ROWS), x)
        return jnp.stack([jnp.zeros(len(x)), pairs + x @ jnp.asarray(ROWS[0])], axis=1)


class Together(Model):
    """Two logits: 0, and a function in which any pixels interact."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        traced.append(x.shape)
        x = x.reshape(len(x), -1)
        score = jnp.prod(x + 0.5, axis=1) + jnp.tanh(x @ jnp.asarray(ROWS[0]))
        return jnp.stack([jnp.zeros(len(x)), score], axis=1)


traced: list = []


def game(model):
    """The score of an image that keeps some of its pixels, the others being its mean."""

    def value(kept):
        pixels = IMAGE.ravel()
        shown = np.where(np.isin(np.arange(4), list(kept)), pixels, pixels.mean())
        return float(model.apply({}, jnp.asarray(shown.reshape(IMAGE.shape), jnp.float32))[0, 1])

    return {kept: value(kept) for n in range(5) for kept in itertools.combinations(range(4), n)}


def shapley_values(values):
    """By the definition: Shapley 1953, the mean over the sets that a pixel joins."""
    found = np.zeros(4)
    for pixel in range(4):
        others = [each for each in range(4) if each != pixel]
        for count in range(4):
            weight = math.factorial(count) * math.factorial(3 - count) / math.factorial(4)
            for kept in itertools.combinations(others, count):
                joined = tuple(sorted((*kept, pixel)))
                found[pixel] += weight * (values[joined] - values[kept])
    return found


def owen_values(values):
    """The mean over the orders in which both pixels of a row come one after the other."""
    rows = [list(itertools.permutations(row)) for row in TREE]
    orders = [
        first + second
        for one, two in itertools.product(*rows)
        for first, second in ((one, two), (two, one))
    ]
    found = np.zeros(4)
    for order in orders:
        for place, pixel in enumerate(order):
            before, after = (tuple(sorted(order[:n])) for n in (place, place + 1))
            found[pixel] += (values[after] - values[before]) / len(orders)
    return found


def shap(model, **options):
    return shapley.shap(model, {}, jnp.asarray(IMAGE), 1, masker="mean", **options)


def test_values_are_shapley_values_where_pairs_of_pixels_interact():
    values = game(Pairs())
    found = np.asarray(shap(Pairs())[0]).ravel()
    np.testing.assert_allclose(found, shapley_values(values), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(owen_values(values), shapley_values(values), rtol=1e-4, atol=1e-5)


def test_values_are_owen_values_and_sum_to_the_difference_of_scores():
    values = game(Together())
    traced.clear()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    found = np.asarray(shap(Together(), batch_size=3)[0]).ravel()
    np.testing.assert_allclose(found, owen_values(values), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, shapley_values(values), atol=1e-2)
    np.testing.assert_allclose(found.sum(), values[0, 1, 2, 3] - values[()], rtol=1e-5)
    assert traced == [(3, 2, 2, 1)]  # compiled once, for one form
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_few_evaluations_keep_the_sum():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)

    class Wave(Model):
        @nn.compact
        def __call__(self, x, train=False):
            return jnp.stack([jnp.sin(x).sum((1, 2, 3)), (x**2).mean((1, 2, 3))], axis=1)

    maps = shapley.shap(Wave(), {}, images, np.array([1, 0]), max_evals=20, masker="mean")
    hidden = jnp.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
    change = Wave().apply({}, images) - Wave().apply({}, hidden)
    np.testing.assert_allclose(maps.sum((1, 2)), [change[0, 1], change[1, 0]], rtol=1e-4, atol=1e-5)
    blurred = shapley.shap(Wave(), {}, images, 0, max_evals=20, seed=3)
    again = shapley.shap(Wave(), {}, images, 0, max_evals=20, seed=3)
    np.testing.assert_array_equal(blurred, again)
    assert not np.allclose(blurred[1], maps[1])


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ConfigError, match=r'pip install "vitjax\[explain\]"'):
        METHODS["shap"].of(Pairs())


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"masker is 'blurr'.*did you mean 'blur'"):
        METHODS["shap"].of(Pairs(), masker="blurr")
    with pytest.raises(ConfigError, match="max_evals is 0"):
        METHODS["shap"].of(Pairs(), max_evals=0)
    assert "say" not in METHODS["shap"].options
