"""Evaluations whose results are NaN or infinite are errors, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from vitjax.core.errors import UserError
from vitjax.metrics import Declaration, Uncounted
from vitjax.models.protocol import Model
from vitjax.nn.dtypes import as_dtype


class NotFiniteError(UserError):
    """The outputs of a model are NaN or infinite where they are evaluated."""


def check_results(
    results: Mapping[str, Any],
    what: str,
    model: Model,
    declared: Mapping[str, Declaration] = MappingProxyType({}),
) -> None:
    """Checks that the losses of an evaluation are finite.

    Other metrics may be NaN by their definition, such as the score of a class that does not occur.
    Results without a loss are checked by the metrics with a direction: one of them must be finite.

    Args:
        results: of a task, nested by mode or split.
        what: what was evaluated, for the error.
        model: the network.
        declared: the declarations of the metrics.

    Raises:
        NotFiniteError: a loss is NaN or infinite; the message says what to do about it.
    """
    losses = dict(_numbers(results, lambda name: name == "loss"))
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if not losses:
        aims = dict(_numbers(results, lambda name: name in declared and _directed(declared[name])))
        bad = aims if not any(map(math.isfinite, aims.values())) else {}
    for name, value in bad.items():
        if not isinstance(value, Uncounted):
            raise NotFiniteError(f"{what} is not finite: {name} is {value}; {_remedy(model)}")


def check_outputs(values: np.ndarray, what: str, model: Model) -> None:
    """Checks predictions.

    Args:
        values: logits or probabilities.
        what: what gave them, for the error.
        model: the network.

    Raises:
        NotFiniteError: one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{what} gives values that are NaN or infinite; {_remedy(model)}")


def _remedy(model: Model) -> str:
    """What to do about outputs of ``model`` that are NaN or infinite, in words."""
    dtypes = [as_dtype(kind) for kind in (model.dtype, model.param_dtype) if kind is not None]
    if jnp.float16 in dtypes:
        return (
            "the model computes in float16, which overflows above 65504:"
            " --config.model.dtype=bfloat16 or float32 evaluates the same weights"
        )
    return (
        "its parameters may have diverged in training, or the images have values that it was not"
        " trained on"
    )


def _directed(declaration: Declaration) -> bool:
    return declaration.higher_is_better is not None


def _numbers(
    results: Mapping[str, Any], wanted: Callable[[str], bool], prefix: str = ""
) -> Iterator[tuple[str, float]]:
    """The names and the values of the ``wanted`` numbers in ``results``.

    Parts without examples are left out: all of them are unreadable.
    """
    if results.get("examples") == 0:
        return
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, wanted, f"{prefix}{name}/")
        elif wanted(name.rpartition("/")[2]) and isinstance(value, int | float):
            yield f"{prefix}{name}", value
