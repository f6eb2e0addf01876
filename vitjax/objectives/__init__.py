"""Objectives: what is trained, as pure functions of (parameters, model state, batch, key).

``objectives`` maps the names that a config's ``objective`` section gives to them.
"""

from vitjax.metrics.mean import Mean, Metrics, add, divide, total
from vitjax.objectives.base import Objective, objectives
from vitjax.objectives.classification import Classification
from vitjax.objectives.head_only import HeadOnly
from vitjax.objectives.mixing import cutmix, mix, mixup
from vitjax.objectives.segmentation import Segmentation

__all__ = [
    "Classification",
    "HeadOnly",
    "Mean",
    "Metrics",
    "Objective",
    "Segmentation",
    "add",
    "cutmix",
    "divide",
    "mix",
    "mixup",
    "objectives",
    "total",
]
