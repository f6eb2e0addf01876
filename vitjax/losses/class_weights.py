"""Weights of classes in a training loss, so that rare classes count as much as frequent ones.

A loss with class weights is the weighted mean ``sum(w * loss) / sum(w)`` over the batch, so only
the ratios of the weights matter. Weights that follow from the data are 1 on average over its
examples (pixels, for masks): the factor of each class in an average batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.text import near_match, shortened
from vitjax.core.validation import OneOf, PositiveFloat, Rate, call, check_keywords, check_value

# Functions of `counts`, the number of examples of each class in the training data, int64 of shape
# (classes,), and of keywords of their own.
WEIGHTINGS: Registry[Callable[..., np.ndarray]] = Registry("class weighting")

# A name of `WEIGHTINGS`; a section of a name and keywords; a weight per class, in order; or class
# name -> weight.
ClassWeights = Annotated[str, OneOf(WEIGHTINGS)] | Sequence[PositiveFloat] | Mapping[str, Any]


@WEIGHTINGS.register("inverse")
def inverse(counts: np.ndarray) -> np.ndarray:
    """``w = examples / (classes * n)`` for a class of n examples: all classes count the same.

    The weights of King and Zeng 2001 (Logistic Regression in Rare Events Data, Section 4.2) for
    equal fractions of the classes, and scikit-learn's ``class_weight="balanced"``.

    Args:
        counts: examples of each class in the training data, (classes,).

    Returns:
        float32 of shape (classes,), 1 on average over the examples. Classes without examples do not
        count among the classes and have the weight 0.
    """
    counts = np.asarray(counts, np.float64)
    occurring = counts > 0
    weights = np.zeros(len(counts))
    weights[occurring] = counts.sum() / (occurring.sum() * counts[occurring])
    return weights.astype(np.float32)


@WEIGHTINGS.register("effective")
def effective(counts: np.ndarray, beta: Rate = 0.999) -> np.ndarray:
    """``w ~ (1 - beta) / (1 - beta^n)`` for a class of n examples.

    The inverse of the effective number of examples (Cui et al. 2019, arXiv 1901.05555, Section 4).
    The paper makes the weights 1 on average over the classes; here they are 1 on average over the
    examples, as those of `inverse`. A weighted mean is the same for both.

    Args:
        counts: examples of each class in the training data, (classes,).
        beta: 0 for equal weights; towards 1 the weights become those of `inverse`. Classes of many
            more than 1 / (1 - beta) examples have equal weights, so masks, whose examples are
            pixels, need a beta such as 0.9999999.

    Returns:
        As of `inverse`.
    """
    counts = np.asarray(counts, np.float64)
    occurring = counts > 0
    weights = np.zeros(len(counts))
    # 1 - beta^n, for n of millions and beta near 1.
    fractions = -np.expm1(counts[occurring] * np.log(beta)) if beta else 1.0
    weights[occurring] = (1 - beta) / fractions
    return (weights * counts.sum() / (weights @ counts)).astype(np.float32)


def resolve(
    setting: ClassWeights,
    class_names: Sequence[str],
    counts: Callable[[], np.ndarray],
    where: str = "config.objective.class_weights",
) -> np.ndarray:
    """The weight of each class.

    Args:
        setting: as in a config: a name, a section, or weights in order or by name. Classes that are
            not named have the weight 1.
        class_names: the data's.
        counts: returns the number of examples of each class in the training data; called only for
            weights that follow from it.
        where: the key in the config, for errors.

    Returns:
        float32 of shape (classes,).

    Raises:
        ConfigError: an unknown name, class or key; a weight that is not above 0; or a number of
            weights other than that of classes.
    """
    check(setting, class_names, where)
    if isinstance(setting, str):
        setting = {"name": setting}
    if isinstance(setting, Mapping) and isinstance(setting.get("name"), str):
        constructor, keys = WEIGHTINGS.from_section(setting, where)
        return np.asarray(call(constructor, keys, where=where, counts=counts()), np.float32)
    if isinstance(setting, Mapping):
        setting = [setting.get(name, 1.0) for name in class_names]
    return np.asarray(setting, np.float32)


def check(
    setting: ClassWeights,
    class_names: Sequence[str] | None,
    where: str = "config.objective.class_weights",
) -> None:
    """Checks ``setting`` without counting examples; arguments and errors are those of `resolve`.

    Without ``class_names`` it checks what can be checked before data is read.
    """
    if isinstance(setting, str):
        WEIGHTINGS.lookup(setting, where)
    elif isinstance(setting, Mapping) and isinstance(setting.get("name"), str):
        constructor, keys = WEIGHTINGS.from_section(setting, where)
        check_keywords(constructor, keys, where=where, given=("counts",))
    elif isinstance(setting, Mapping):
        for name, weight in setting.items():
            if class_names is not None and name not in class_names:
                raise ConfigError(
                    f"{where}: {name!r} is not a class{near_match(name, class_names)} (classes:"
                    f" {shortened(class_names, 20)})"
                )
            check_value(weight, PositiveFloat, f"{where}.{name}")
    elif class_names is not None and len(setting) != len(class_names):
        raise ConfigError(
            f"{where} has {len(setting)} weights; it must have one for each of the"
            f" {len(class_names)} classes ({shortened(class_names, 20)})"
        )
