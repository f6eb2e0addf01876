"""The pictures of a segmentation run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax import figures
from vitjax.training.evaluation import Evaluator

_SHOWN = 3


def draw(evaluator: Evaluator, variables: Any, split: str, pictures: Path) -> None:
    """Draws the images of ``split`` with the lowest and the highest intersection over union.

    All hosts call it, and the first one draws.

    Args:
        evaluator: of the run's experiment.
        variables: placed on the devices.
        split: whose images are drawn.
        pictures: the folder.
    """
    ious = evaluator.image_ious(variables, split)
    if jax.process_index() > 0:
        return
    experiment = evaluator.experiment
    data, objective = experiment.data, evaluator.objective
    # Copies of the first host: it alone computes what follows.
    own = jax.device_get(experiment.parallel.fetch(variables))
    predict = jax.jit(objective.predict)
    order = np.argsort(ious, kind="stable")
    for name, chosen in (("worst", order[:_SHOWN]), ("best", order[::-1][:_SHOWN])):
        rows, titles = [], []
        for index in map(int, chosen):
            image, truth = data.example(split, index), data.truth(split, index)
            probabilities = np.asarray(predict(own, {"image": image[None]}))[0]
            rows.append((image, truth, probabilities.argmax(axis=-1)))
            titles.append(f"{split} {index}: IoU {ious[index]:.1%}")
        figures.segmentations(rows, titles, experiment.class_names, pictures / f"{name}.png")
