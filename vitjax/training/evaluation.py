"""Evaluation over a whole split: every example counts exactly once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import jax
import numpy as np

from vitjax.meta import evaluation
from vitjax.metrics.mean import divide, total
from vitjax.metrics.objects import Measures
from vitjax.training.experiment import Experiment
from vitjax.training.step import make_evaluate_step, make_gather_step, make_predict_step


class Evaluator:
    """Evaluates an experiment's variables; compiles once for all calls."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        parallel = experiment.parallel
        axis = parallel.axis_name
        objective: Any = experiment.objective
        self.objective = objective
        self._evaluate = parallel.compile(make_evaluate_step(objective, axis_name=axis))
        self._predict = parallel.compile(make_predict_step(objective, axis_name=axis))

    def metrics(self, variables: Any, split: str) -> dict[str, float]:
        """The metrics of ``split``, and ``examples``: how many were counted.

        Args:
            variables: placed on the devices.
            split: one of the data's splits.
        """
        sums = list(self._batches(self._evaluate, variables, split))
        metrics = total(jax.device_get(sums))
        examples = int(metrics.pop("examples").count)
        return {**summarized(self.objective, divide(metrics)), "examples": examples}

    def results(self, variables: Any, split: str) -> dict[str, Any]:
        """The numbers of ``split`` for a report: `metrics`, or what episodes say.

        An objective that measures single episodes gets means over them and their intervals, see
        `vitjax.meta.evaluation.results`.
        """
        if hasattr(self.objective, "per_pixel"):
            return {**self.metrics(variables, split), **self.object_measures(variables, split)}
        if not hasattr(self.objective, "measure"):
            return self.metrics(variables, split)
        protocol = self.experiment.data.protocol(split)
        return evaluation.results(self.measures(variables, split), protocol)

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

    def object_measures(self, variables: Any, split: str) -> dict[str, float]:
        """The whole-image measures of a segmentation that its objective names, of ``split``."""
        measures = Measures(self.objective.measures)
        if not measures.names:
            return {}
        step = self._gather_step(self.objective.foreground_probability)
        # One batch at a time: all probabilities of a split may be more than fits into memory.
        for batch in self._batches(step, variables, split):
            found = _counted([jax.device_get(batch)])
            for probability, label in zip(found["probability"], found["label"], strict=True):
                measures.add(probability, label, self.objective.foreground)
        return measures.values()

    def image_ious(self, variables: Any, split: str) -> np.ndarray:
        """Of each image of ``split`` the mean intersection over union of its classes, in order."""
        found: np.ndarray = self._gather(
            self._gather_step(self.objective.image_iou), variables, split
        )
        return found

    def measures(self, variables: Any, split: str) -> dict[str, dict[str, np.ndarray]]:
        """What the objective measures on each episode of ``split`` that counts, in its order.

        ``{mode: {"loss": (episodes, steps + 1), "accuracy": (episodes, steps + 1)}}``.
        """
        gathered: dict[str, Any] = self._gather(self._measure, variables, split)
        return gathered

    def query_probabilities(self, variables: Any, split: str) -> dict[str, Any]:
        """Of each episode of ``split`` that counts, what the objective holds of its queries.

        ``probabilities``, ``{mode: (episodes, queries, ways)}``; ``target`` and ``mask``, which are
        (episodes, queries).
        """
        gathered: dict[str, Any] = self._gather(self._query_probabilities, variables, split)
        return gathered

    def first(
        self, function: Callable[[Any, Any], Any], variables: Any, split: str, count: int
    ) -> Any:
        """``function(variables, batch)`` of the first ``count`` examples of ``split``, or fewer.

        Args:
            function: its arrays have the batch's leading axis; it is compiled.
            variables: placed on the devices.
            split: one of the data's splits.
            count: how many; never more than a batch has.
        """
        with contextlib.closing(
            self._batches(self._gather_step(function, count), variables, split)
        ) as batches:
            return _counted([jax.device_get(next(batches))])

    @functools.cached_property
    def _measure(self) -> Callable[..., Any]:
        return self._gather_step(self.objective.measure)

    @functools.cached_property
    def _query_probabilities(self) -> Callable[..., Any]:
        def probabilities(variables: Any, batch: Any) -> dict[str, Any]:
            return {
                "probabilities": self.objective.query_probabilities(variables, batch),
                "target": batch["query"]["target"],
                "mask": batch["query"]["mask"],
            }

        return self._gather_step(probabilities)

    def _gather(self, step: Callable[..., Any], variables: Any, split: str) -> Any:
        """The values of a gathering step over all examples of ``split`` that count, in order."""
        return _counted(jax.device_get(list(self._batches(step, variables, split))))

    def _gather_step(
        self, function: Callable[..., Any], first: int | None = None
    ) -> Callable[..., Any]:
        parallel = self.experiment.parallel
        return parallel.compile(
            make_gather_step(function, first=first, axis_name=parallel.axis_name)
        )

    def _batches(
        self, step: Callable[..., Any], variables: Any, split: str
    ) -> Generator[Any, None, None]:
        parallel = self.experiment.parallel
        batches = self.experiment.data.eval_batches(
            split, process_index=jax.process_index(), process_count=jax.process_count()
        )
        with contextlib.closing(self.experiment.batches_ahead(batches)) as placed:
            for batch in placed:
                yield parallel.fetch(step(variables, batch))


def summarized(objective: Any, values: dict[str, float]) -> dict[str, float]:
    """``values`` with the means over them that ``objective`` has, where it has any."""
    if hasattr(objective, "summarize"):
        values = objective.summarize(values)
    return values


def _counted(batches: list[dict[str, Any]]) -> Any:
    """The values of all batches, one after the other, without those that are padding."""
    mask = np.concatenate([batch["mask"] for batch in batches]).astype(bool)
    return jax.tree.map(
        lambda *parts: np.concatenate(parts)[mask], *[batch["values"] for batch in batches]
    )
