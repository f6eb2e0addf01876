"""What a person does with a run, per kind of task.

One file per kind holds its evaluation, predictions and figures (`vitjax.training.task.Task`);
`runs` has what works for all of them.
"""

from vitjax.tasks.classification import Classification
from vitjax.tasks.few_shot import FewShot
from vitjax.tasks.segmentation import Segmentation

__all__ = ["Classification", "FewShot", "Segmentation"]
