"""Metrics that merge exactly over batches, devices, hosts and padding.

There are three kinds: `Mean` (a weighted mean), `PerClass` (a vector, one ratio per class) and
`Collected` (examples are gathered, and a `Measure` computes the value on the host). Each declares
its direction and unit; the choice of the best checkpoint, early stopping, curves and tables read
these declarations.
"""

from vitjax.metrics.base import (
    Declaration,
    Metric,
    Metrics,
    Value,
    declarations,
    entries,
    merge,
    numbers,
    over_axis,
    values,
)
from vitjax.metrics.calibration import CalibrationError
from vitjax.metrics.collected import MEASURES, Collected, Measure, check_measures, create_measures
from vitjax.metrics.confusion import ClassScores, ConfusionMatrix, ratio
from vitjax.metrics.intervals import student, wilson
from vitjax.metrics.mean import Mean, Uncounted
from vitjax.metrics.objects import ObjectScores
from vitjax.metrics.over_time import (
    AccuracyOverTime,
    ReactionTime,
    reaction_times,
    right_at_steps,
)
from vitjax.metrics.vector import PerClass

__all__ = [
    "MEASURES",
    "AccuracyOverTime",
    "CalibrationError",
    "ClassScores",
    "Collected",
    "ConfusionMatrix",
    "Declaration",
    "Mean",
    "Measure",
    "Metric",
    "Metrics",
    "ObjectScores",
    "PerClass",
    "ReactionTime",
    "Uncounted",
    "Value",
    "check_measures",
    "create_measures",
    "declarations",
    "entries",
    "merge",
    "numbers",
    "over_axis",
    "ratio",
    "reaction_times",
    "right_at_steps",
    "student",
    "values",
    "wilson",
]
