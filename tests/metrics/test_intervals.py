"""Intervals against published and hand-computed numbers."""

import math

import numpy as np
import pytest

from vitjax.metrics import t_interval, wilson


# Newcombe 1998, Statistics in Medicine 17, Table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    reverse = wilson(trials - successes, trials)
    assert reverse == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_solves_its_equation():
    """At both ends the proportion is 1.96 standard errors away, with the errors of that end."""
    for end in wilson(30, 47):
        assert abs(30 / 47 - end) / math.sqrt(end * (1 - end) / 47) == pytest.approx(1.95996, 1e-5)


def test_wilson_of_nothing_and_of_too_many():
    assert all(map(math.isnan, wilson(0, 0)))
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson(3, 2)


def test_t_interval():
    # The 97.5% quantiles of Student's t with 2 and 4 degrees of freedom, from tables.
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.302653 / math.sqrt(3)), rel=1e-6)
    values = np.array([0.8, 0.9, 0.7, 0.75, 0.85])
    expected = 2.776445 * values.std(ddof=1) / math.sqrt(5)
    assert t_interval(values) == pytest.approx((0.8, expected), rel=1e-6)
    mean, half = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)
