"""Probes: linear, nearest-neighbour and few-shot classifiers on features."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vitjax.analysis.logistic import Logistic
from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import Length, PositiveFloat, PositiveInt
from vitjax.data.sources.base import hold_out

Numbers = dict[str, Any]

# The search for the L2 of the linear probe: exponents of ten, and the final step.
_FIRST_EXPONENTS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
_LAST_STEP = 1 / 8
_HELD_OUT = 0.2
# The numbers of neighbours in DINO, and the temperature of their votes.
NEIGHBOURS = (10, 20, 100, 200)
_TEMPERATURE = 0.07
_CHUNK_BYTES = 2**28
# A constant feature that replaces the bias: so large that its weight is hardly regularised.
_BIAS = 100.0


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features with their classes.

    Attributes:
        features: the features of one layer.
        labels: class numbers.
    """

    features: Float[np.ndarray, "examples width"]
    labels: Int[np.ndarray, "examples"]


@dataclasses.dataclass(frozen=True)
class Sets:
    """The examples of a probe.

    Attributes:
        train: the examples to learn from.
        test: the examples to classify.
        held_out: examples to choose hyperparameters by; None if the data has none.
        class_names: the names of all classes.
    """

    train: Examples
    test: Examples
    held_out: Examples | None
    class_names: Sequence[str]


PROBES: Registry[Callable[..., dict[str, Numbers]]] = Registry("probe")


# `chooses`: the probe uses held-out examples, if there are any.
@PROBES.register("linear", chooses=True)
def linear(
    sets: Sets, *, l2: PositiveFloat | None = None, refit: bool = False
) -> dict[str, Numbers]:
    """Multinomial logistic regression by L-BFGS, with L2 chosen on held-out examples.

    See `vitjax.analysis.logistic.Logistic`. The l2 is searched for as in Radford et al. 2021
    (CLIP), arXiv 2103.00020, App. A.3: every second power of ten from 1e-6 to 1e6, then in ever
    smaller steps around the best, up to eight steps per decade.

    Args:
        sets: without ``held_out`` the l2 is chosen on a fifth of ``train``, the same fraction of
            each class, before learning from all of it.
        l2: the strength of the L2; None searches for it.
        refit: whether to learn from ``train`` and ``held_out`` together after the l2 is chosen.

    Returns:
        ``{"linear": {"accuracy", "l2", "converged"}}``, and ``held_out_accuracy`` after a search.

    Raises:
        ConfigError: there are no held-out examples to refit on, or all training examples are of one
            class.
    """
    classes = np.unique(sets.train.labels)
    if len(classes) < 2:
        raise ConfigError(
            f"a linear probe needs several classes, but all {len(sets.train.labels)} training"
            f" examples are of class {sets.class_names[classes[0]]!r}"
        )
    if refit and sets.held_out is None:
        raise ConfigError(
            "--refit: the data has no held-out split to learn from in addition to 'train'"
        )
    found: Numbers = {}
    if l2 is None:
        learned, held_out = sets.train, sets.held_out
        if held_out is None:
            learned, held_out = _divided(sets.train)
        l2, accuracy = _search(Logistic(learned.features, learned.labels), held_out)
        found["held_out_accuracy"] = accuracy
    learned = sets.train
    if refit and sets.held_out is not None:
        learned = Examples(
            np.concatenate([sets.train.features, sets.held_out.features]),
            np.concatenate([sets.train.labels, sets.held_out.labels]),
        )
    probe = Logistic(learned.features, learned.labels)
    probe.fit(l2)
    accuracy = _accuracy(probe, sets.test)
    return {"linear": {"accuracy": accuracy, "l2": l2, "converged": probe.converged, **found}}


def _accuracy(probe: Logistic, examples: Examples) -> float:
    return float(np.mean(probe.predict(examples.features) == examples.labels))


def _search(probe: Logistic, held_out: Examples) -> tuple[float, float]:
    """The l2 that is best on ``held_out``, and its accuracy; the strongest of equal ones."""
    scores: dict[float, float] = {}

    def score(exponent: float) -> float:
        if exponent not in scores:
            probe.fit(10.0**exponent)
            scores[exponent] = _accuracy(probe, held_out)
        return scores[exponent]

    def best() -> float:
        return max(scores, key=lambda exponent: (scores[exponent], exponent))

    # From strong to weak, so that each fit starts from a simpler one.
    for exponent in reversed(_FIRST_EXPONENTS):
        score(exponent)
    step = 1.0
    while step >= _LAST_STEP:
        middle = best()
        for exponent in (middle + step, middle - step):
            if _FIRST_EXPONENTS[0] <= exponent <= _FIRST_EXPONENTS[-1]:
                score(exponent)
        step /= 2
    return 10.0 ** best(), scores[best()]


def _divided(examples: Examples) -> tuple[Examples, Examples]:
    """Four fifths and one fifth of ``examples``, with the same fraction of each class."""
    classes = len(np.unique(examples.labels))
    count = min(math.ceil(_HELD_OUT * len(examples.labels)), len(examples.labels) - classes)
    if count < 1:
        raise ConfigError(
            "the linear probe's L2 is chosen on held-out examples, but there are none: the data has"
            " no split for it, and no class has two training examples; --l2=1 needs no choice"
        )
    parts = hold_out(examples.labels, count, seed=0)
    first, second = (Examples(examples.features[i], examples.labels[i]) for i in parts)
    return first, second


@PROBES.register("knn")
def knn(sets: Sets, *, k: Sequence[PositiveInt] | None = None) -> dict[str, Numbers]:
    """Weighted votes of the nearest training examples, by the cosine of their features.

    Each of the k nearest votes for its class with exp(cosine / 0.07), as in Wu et al. 2018,
    arXiv 1805.01978, Sec. 3.4, and Caron et al. 2021 (DINO), arXiv 2104.14294. All pairs are
    compared, in chunks of queries.

    Args:
        sets: the neighbours are in ``train``; ``test`` is classified.
        k: numbers of neighbours; None for those of `NEIGHBOURS` that the training set has.

    Returns:
        ``{"k=20": {"accuracy"}, ...}``.

    Raises:
        ConfigError: a k is larger than the training set.
    """
    count = len(sets.train.labels)
    counts = [n for n in NEIGHBOURS if n <= count] or [1] if k is None else list(k)
    for each in counts:
        if each > count:
            raise ConfigError(f"--k={each}: must be at most {count}, the number of examples")
    keys = jnp.asarray(_unit(sets.train.features))
    labels = jnp.asarray(sets.train.labels)
    chunk = max(1, _CHUNK_BYTES // (4 * count))
    right = np.zeros(len(counts), np.int64)
    for start in range(0, len(sets.test.labels), chunk):
        part = slice(start, start + chunk)
        queries = jnp.asarray(_unit(sets.test.features[part]))
        votes = _votes(queries, keys, labels, tuple(counts), len(sets.class_names))
        guesses = np.asarray(jnp.argmax(votes, axis=-1))
        right += np.sum(guesses == sets.test.labels[part], axis=1)
    return {
        f"k={each}": {"accuracy": float(hits / len(sets.test.labels))}
        for each, hits in zip(counts, right, strict=True)
    }


@functools.partial(jax.jit, static_argnames=("counts", "num_classes"))
def _votes(
    queries: Float[Array, "queries width"],
    keys: Float[Array, "keys width"],
    labels: Int[Array, "keys"],
    counts: tuple[int, ...],
    num_classes: int,
) -> Float[Array, "counts queries classes"]:
    """The votes for each class, for each number of neighbours."""
    cosines, nearest = jax.lax.top_k(
        jnp.einsum("qw,kw->qk", queries, keys, precision="highest"), max(counts)
    )
    # The largest is subtracted, which changes no decision and prevents overflow.
    weights = jnp.exp((cosines - cosines[:, :1]) / _TEMPERATURE)
    rows = jnp.arange(len(queries))[:, None]
    empty = jnp.zeros((len(queries), num_classes))
    return jnp.stack([empty.at[rows, labels[nearest[:, :k]]].add(weights[:, :k]) for k in counts])


def _unit(features: Float[np.ndarray, "examples width"]) -> Float[np.ndarray, "examples width"]:
    """Rows of length 1; a row of zeros is unchanged."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


@PROBES.register("few_shot")
def few_shot(
    sets: Sets,
    *,
    shots: Annotated[Sequence[PositiveInt], Length()] = (1, 5, 10),
    draws: PositiveInt = 5,
    l2: PositiveFloat = 2.0**10,
) -> dict[str, Numbers]:
    """Regularised least squares on a few examples of each class, in closed form.

    The few-shot accuracy of Dosovitskiy et al. 2021, arXiv 2010.11929, Sec. 4.1: features are
    regressed to targets of 1 for the class of an example and -1 for all others. Details that the
    paper does not give follow google-research/big_vision: features are standardised by the mean and
    standard deviation of the few examples, a constant feature of 100 replaces the bias, and l2 is
    2^10.

    Args:
        sets: the few examples are from ``train``; all of ``test`` is classified.
        shots: numbers of examples per class. Smaller sets are subsets of larger ones.
        draws: the number of times that examples are drawn.
        l2: the strength of the regularisation.

    Returns:
        ``{"5-shot": {"accuracy", "ci95"}, ...}``: the mean over draws and half of its 95%
        confidence interval, None for a single draw.

    Raises:
        ConfigError: a class has fewer examples than shots.
    """
    counts = np.bincount(sets.train.labels, minlength=len(sets.class_names))
    fewest = int(np.argmin(counts))
    if counts[fewest] < max(shots):
        raise ConfigError(
            f"--shots={max(shots)}: class {sets.class_names[fewest]!r} has {counts[fewest]}"
            f" example{'' if counts[fewest] == 1 else 's'} to learn from"
        )
    found: dict[int, list[float]] = {each: [] for each in shots}
    for draw in range(draws):
        generator = np.random.default_rng(draw)
        order = [
            generator.permutation(np.flatnonzero(sets.train.labels == label))
            for label in range(len(sets.class_names))
        ]
        for each, accuracies in found.items():
            chosen = np.concatenate([indices[:each] for indices in order])
            few = Examples(sets.train.features[chosen], sets.train.labels[chosen])
            guesses = _least_squares(few, sets.test.features, len(sets.class_names), l2)
            accuracies.append(float(np.mean(guesses == sets.test.labels)))
    return {
        f"{each}-shot": {
            "accuracy": float(np.mean(accuracies)),
            "ci95": float(1.96 * np.std(accuracies, ddof=1) / math.sqrt(draws))
            if draws > 1
            else None,
        }
        for each, accuracies in found.items()
    }


def _least_squares(
    few: Examples, queries: np.ndarray, num_classes: int, l2: float
) -> Int[np.ndarray, "queries"]:
    """The class of each of ``queries`` by ridge regression on ``few``."""
    mean = few.features.mean(axis=0, dtype=np.float64)
    deviation = few.features.std(axis=0, dtype=np.float64) + 1e-5

    def inputs(features: np.ndarray) -> np.ndarray:
        standard = (features - mean) / deviation
        return np.concatenate([standard, np.full((len(standard), 1), _BIAS)], axis=1)

    x, targets = inputs(few.features), 2.0 * np.eye(num_classes)[few.labels] - 1
    count, width = x.shape
    # The smaller of two equivalent systems: (X'X + l2)^-1 X'Y = X' (XX' + l2)^-1 Y.
    if count >= width:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(width), x.T @ targets)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(count), targets)
    return np.argmax(inputs(queries) @ weights, axis=1)
