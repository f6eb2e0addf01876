"""Objectives: training methods, as pure functions of (parameters, model state, batch, key).

``objectives`` is the registry of the names that a config's ``objective`` section uses.
"""

from vitjax.metrics import Collected, Mean, Metrics, PerClass
from vitjax.objectives.base import Objective, objectives
from vitjax.objectives.classification import Classification
from vitjax.objectives.head_only import HeadOnly
from vitjax.objectives.interfaces import Classifier, ImageObjective, Segmenter
from vitjax.objectives.mixing import cutmix, mix, mixup
from vitjax.objectives.segmentation import Segmentation
from vitjax.objectives.state import TrainState

__all__ = [
    "Classification",
    "Classifier",
    "Collected",
    "HeadOnly",
    "ImageObjective",
    "Mean",
    "Metrics",
    "Objective",
    "PerClass",
    "Segmentation",
    "Segmenter",
    "TrainState",
    "cutmix",
    "mix",
    "mixup",
    "objectives",
]
