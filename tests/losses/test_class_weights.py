"""Weights of classes: from counts by hand, and as a person gives them."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vitjax.core.errors import ConfigError
from vitjax.losses.class_weights import check, effective, inverse, resolve

NAMES = ("cat", "dog", "owl")
WHERE = "config.objective.class_weights"


def test_inverse_by_hand():
    # 12 examples, 3 classes: 12 / (3 * n); each class then has a total weight of 4.
    np.testing.assert_allclose(inverse(np.array([6, 4, 2])), [2 / 3, 1, 2], rtol=1e-6)
    # A class without examples counts not: 8 / (2 * n).
    np.testing.assert_allclose(inverse(np.array([6, 0, 2])), [2 / 3, 0, 2], rtol=1e-6)


def test_effective_by_hand():
    # 1, 1.5 and 1.75 effective examples for beta = 0.5.
    raw = np.array([1, 1 / 1.5, 1 / 1.75])
    expected = raw * 6 / (raw @ [1, 2, 3])
    np.testing.assert_allclose(effective(np.array([1, 2, 3]), beta=0.5), expected, rtol=1e-6)
    # 0 gives equal weights, and near 1 those of `inverse`, also where 1 - beta^n would round to 0.
    counts = np.array([10, 2000, 5_000_000])
    np.testing.assert_allclose(effective(counts, beta=0), 1)
    np.testing.assert_allclose(effective(counts, 1 - 1e-14), inverse(counts), rtol=1e-4)


counts_of_classes = st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any)


@hypothesis.given(counts_of_classes, st.sampled_from([0.0, 0.5, 0.99, 0.999999]))
def test_weights_are_1_on_average_over_the_examples(counts, beta):
    counts = np.array(counts)
    for weights in (inverse(counts), effective(counts, beta)):
        assert weights @ counts / counts.sum() == pytest.approx(1, rel=1e-5)
        assert np.array_equal(weights > 0, counts > 0)
        order = np.argsort(counts[counts > 0])  # a rarer class weighs no less
        assert (np.diff(weights[counts > 0][order]) <= 1e-6 * weights.max()).all()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("inverse", [2 / 3, 1, 2]),
        ({"name": "inverse"}, [2 / 3, 1, 2]),
        ({"name": "effective", "beta": 0.0}, [1, 1, 1]),
        ([1, 2.5, 3], [1, 2.5, 3]),
        ({"owl": 4, "cat": 0.5}, [0.5, 1, 4]),
        ({}, [1, 1, 1]),
    ],
)
def test_a_setting_gives_the_weight_of_each_class(setting, expected):
    found = resolve(setting, NAMES, lambda: np.array([6, 4, 2]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_given_weights_count_nothing():
    def counts():
        raise AssertionError("counted")

    resolve([1, 2, 3], NAMES, counts)
    resolve({"dog": 2}, NAMES, counts)
    check("inverse", NAMES)


def test_a_class_may_be_called_name():
    assert list(resolve({"name": 3.0}, ("name", "b"), lambda: np.ones(2))) == [3, 1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("invers", f"{WHERE}: unknown class weighting 'invers'; did you mean 'inverse'?"),
        ({"name": "efective"}, f"{WHERE}.name: .*did you mean 'effective'"),
        ({"name": "effective", "bta": 0.9}, f"{WHERE}: unknown key 'bta'; did you mean 'beta'"),
        ({"name": "effective", "beta": 1.0}, rf"{WHERE}.beta is 1.0; it must be in \[0, 1\)"),
        ([1, 2], rf"{WHERE} has 2 weights.*each of the 3 classes \(cat, dog, owl\)"),
        ({"cta": 2}, f"{WHERE}: 'cta' is not a class; did you mean 'cat'.*classes: cat, dog, owl"),
        ({"cat": 0}, f"{WHERE}.cat is 0; it must be above 0"),
        ({"cat": "2"}, f"{WHERE}.cat is '2'; it must be a number above 0"),
        ({"cat": float("inf")}, f"{WHERE}.cat is inf"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        check(setting, NAMES)
