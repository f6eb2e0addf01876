"""Objectives: what is trained, as pure functions of (parameters, model state, batch, key).

`create` makes one by the name that a config's ``objective`` section gives.
"""

from typing import Any

from vitjax.objectives.base import Objective, objectives
from vitjax.objectives.classification import Classification
from vitjax.objectives.metrics import Mean, Metrics, add, divide, total
from vitjax.objectives.mixing import cutmix, mix, mixup

__all__ = [
    "Classification",
    "Mean",
    "Metrics",
    "Objective",
    "add",
    "cutmix",
    "divide",
    "mix",
    "mixup",
    "names",
    "objectives",
    "total",
]


def names() -> tuple[str, ...]:
    """The names of all objectives."""
    return objectives.names()


def constructor(name: str) -> Any:
    """The class of the objective called ``name``."""
    return objectives[name]
