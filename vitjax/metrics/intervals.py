"""Confidence intervals of results."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

_Z = 1.959963984540054  # of 95% of a normal distribution


def wilson(fraction: float, number: int) -> tuple[float, float]:
    """The 95% interval of a fraction of ``number`` independent examples: Wilson 1927, Eq. 5.

    Unlike the normal approximation it lies in [0, 1] and is not empty at 0 and 1.

    Args:
        fraction: the observed fraction, in [0, 1].
        number: of examples, at least 1.
    """
    square = _Z**2 / number
    centre = (fraction + square / 2) / (1 + square)
    half = _Z * math.sqrt(fraction * (1 - fraction) / number + square / (4 * number))
    half /= 1 + square
    return max(0.0, centre - half), min(1.0, centre + half)


def student(values: Sequence[float]) -> tuple[float, float]:
    """The mean of values and half the width of its 95% interval, by Student's t distribution.

    The half width is NaN for fewer than two values, of which nothing is known.
    """
    found = np.asarray(values, np.float64)
    number = len(found)
    mean = float(found.mean()) if number else math.nan
    if number < 2:
        return mean, math.nan
    quantile = float(stats.t.ppf(0.975, number - 1))
    return mean, quantile * float(found.std(ddof=1)) / math.sqrt(number)
