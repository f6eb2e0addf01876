"""Tasks: the evaluation, predictions and figures of each kind of run.

Each task is a `vitjax.training.task.Task` in a file of its own; `runs` is the Python interface to
runs of all tasks.
"""

from vitjax.tasks.classification import Classification
from vitjax.tasks.few_shot import FewShot
from vitjax.tasks.segmentation import Segmentation

__all__ = ["Classification", "FewShot", "Segmentation"]
