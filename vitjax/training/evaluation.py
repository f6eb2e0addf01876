"""Evaluation over a whole split: every example counts exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from vitjax.objectives.metrics import divide, total
from vitjax.training.experiment import Experiment
from vitjax.training.parallel import ahead
from vitjax.training.step import make_evaluate_step, make_predict_step


class Evaluator:
    """Evaluates an experiment's variables; compiles once for all calls."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        parallel = experiment.parallel
        axis = parallel.axis_name
        self._evaluate = parallel.compile(make_evaluate_step(experiment.objective, axis_name=axis))
        self._place = experiment.place_batch()
        self._predict = parallel.compile(make_predict_step(experiment.objective, axis_name=axis))

    def metrics(self, variables: Any, split: str) -> dict[str, float]:
        """The metrics of ``split``, and ``examples``: how many were counted.

        Args:
            variables: placed on the devices.
            split: one of the data's splits.
        """
        sums = list(self._batches(self._evaluate, variables, split))
        metrics = total(jax.device_get(sums))
        examples = int(metrics.pop("examples").count)
        return {**divide(metrics), "examples": examples}

    def predictions(self, variables: Any, split: str) -> dict[str, np.ndarray]:
        """Arrays over the examples of ``split`` that count, in its order.

        ``index`` (place in the split), ``label``, ``prediction`` and ``confidence``.
        """
        batches = jax.device_get(list(self._batches(self._predict, variables, split)))
        arrays = {
            name: np.concatenate([np.asarray(batch[name]) for batch in batches])
            for name in batches[0]
        }
        counted = arrays.pop("mask").astype(bool)
        arrays["index"] = np.arange(len(counted))
        return {name: array[counted] for name, array in arrays.items()}

    def _batches(self, step: Callable[..., Any], variables: Any, split: str) -> Iterator[Any]:
        parallel = self.experiment.parallel
        batches = self.experiment.data.eval_batches(
            split, process_index=jax.process_index(), process_count=jax.process_count()
        )
        with contextlib.closing(ahead(batches, self._place)) as placed:
            for batch in placed:
                yield parallel.fetch(step(variables, batch))
