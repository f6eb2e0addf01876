"""Intervals of 95% confidence: of a proportion, and of a mean over runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

_Z = 1.959963984540054  # of a normal distribution, the 97.5% quantile


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Unlike the interval of the normal approximation it stays within [0, 1] and has a width for
    proportions of 0 and 1.

    Args:
        successes: from 0 to ``trials``.
        trials: independent ones.

    Returns:
        The lower and the upper end; NaN without trials.

    Raises:
        ValueError: there are more successes than trials, or fewer than 0.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if not trials:
        return math.nan, math.nan
    p, share = successes / trials, _Z**2 / trials
    middle = (p + share / 2) / (1 + share)
    half = _Z * math.sqrt(p * (1 - p) / trials + share / (4 * trials)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def t_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean of a few values, and half the width of its 95% interval by Student's t.

    For values of runs that differ in their seeds alone: t quantile x s / sqrt(n), where s has n - 1
    in the denominator.

    Args:
        values: (n,).

    Returns:
        The mean and the half width, which is NaN for fewer than two values.
    """
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return (float(found[0]) if len(found) else math.nan), math.nan
    quantile = float(special.stdtrit(len(found) - 1, 0.975))
    return float(found.mean()), quantile * float(found.std(ddof=1)) / math.sqrt(len(found))
