"""Intervals beside SciPy's."""

import math

import numpy as np
import pytest
from scipy import stats

from vitjax.metrics import student, wilson


@pytest.mark.parametrize(("hits", "number"), [(0, 5), (5, 5), (1, 1), (177, 180), (3, 10_000)])
def test_wilson_is_that_of_scipy(hits, number):
    expected = stats.binomtest(hits, number).proportion_ci(method="wilson")
    assert wilson(hits / number, number) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_student_is_that_of_scipy():
    values = [0.91, 0.93, 0.97, 0.9]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    mean, half = student(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert math.isnan(student([0.5])[1])
    assert student([0.5])[0] == 0.5
    assert math.isnan(student([])[0])
