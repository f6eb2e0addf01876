"""Evaluation over a complete split: each example counts exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vitjax import metrics as metrics_
from vitjax.core.text import Say
from vitjax.data import DataError
from vitjax.metrics import Metrics, Value
from vitjax.training.experiment import Experiment
from vitjax.training.progress import Progress, noted_if_long
from vitjax.training.step import make_evaluate_step, make_gather_step

# The number of batches of collected metrics that are kept before they are merged.
_MERGED = 64


class Gathered:
    """What `Evaluator.also_gathering` gathered.

    Attributes:
        values: see `Evaluator.gather`; None before an evaluation.
        index: see `Evaluator.gather`.
    """

    values: Any = None
    index: np.ndarray | None = None


class Evaluator:
    """Evaluates variables of an experiment; each function is compiled once for all calls.

    Args:
        experiment: what is evaluated.
        say: receives how far an evaluation is, that a step is being compiled, and that a figure
            cannot be drawn; None for none of these.
    """

    def __init__(self, experiment: Experiment, say: Say | None = None):
        self.experiment = experiment
        self.say = say
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._called: set[Callable[..., Any]] = set()
        self._also: tuple[Callable[..., Any], Gathered] | None = None

    def metrics(self, variables: Any, split: str) -> dict[str, Any]:
        """The objective's metrics on ``split``, and ``examples``, the number that count.

        Args:
            variables: placed on the devices.
            split: one of the data's splits.

        Raises:
            DataError: the split has no examples.
        """
        if self._also is None:
            return self._values(self.experiment.objective.evaluate, variables, split)
        (function, gathered), self._also = self._also, None
        parts: list[Any] = []
        values = self._values(
            self.experiment.objective.evaluate, variables, split, (function, parts.append)
        )
        gathered.values, gathered.index = _counted(parts)
        return values

    @contextlib.contextmanager
    def also_gathering(self, function: Callable[[Any, Any], Any]) -> Iterator[Gathered]:
        """Within it, the first `metrics` gathers ``function`` as well, in one pass over the data.

        Args:
            function: as of `gather`.
        """
        gathered = Gathered()
        self._also = function, gathered
        try:
            yield gathered
        finally:
            self._also = None

    def final_metrics(self, variables: Any, split: str) -> dict[str, Any]:
        """`metrics` and the objective's `final_metrics`."""
        values = self.metrics(variables, split)
        if self.experiment.final_declarations:  # else a second pass over the data is useless
            values |= self._values(self.experiment.objective.final_metrics, variables, split)
        return values

    def gather(
        self, function: Callable[[Any, Any], Any], variables: Any, split: str
    ) -> tuple[Any, np.ndarray]:
        """``function(variables, batch)`` for all examples of ``split`` that count, in its order.

        Args:
            function: a pure function whose arrays have the batch's leading axis; it is compiled.
            variables: placed on the devices.
            split: one of the data's splits.

        Returns:
            The values, and the index of each example in the split.
        """
        step = self._gather_step(function)
        return _counted(jax.device_get(list(self._batches(step, variables, split))))

    def first(
        self, function: Callable[[Any, Any], Any], variables: Any, split: str, count: int
    ) -> Any:
        """`gather` for the first ``count`` examples, at most those of one batch."""
        step = self._gather_step(function, count)
        with contextlib.closing(self._batches(step, variables, split)) as batches:
            return _counted([jax.device_get(next(batches))])[0]

    def _values(
        self,
        function: Callable[..., Metrics],
        variables: Any,
        split: str,
        also: tuple[Callable[..., Any], Callable[[Any], object]] | None = None,
    ) -> dict[str, Any]:
        """The values of the metrics of ``function``.

        ``also``: a function to gather, and what receives its values for each batch.
        """
        axis = self.experiment.parallel.axis_name
        gathered, receive = also or (None, None)

        def make() -> Callable[..., Any]:
            evaluate = make_evaluate_step(function, axis_name=axis)
            if gathered is None:
                return evaluate
            gather = make_gather_step(gathered, axis_name=axis)

            # In one program, the forward pass that both need is computed once.
            def evaluate_and_gather(variables: Any, batch: Any) -> dict[str, Any]:
                return {"metrics": evaluate(variables, batch), "gathered": gather(variables, batch)}

            return evaluate_and_gather

        step = self._compile(("evaluate", function, gathered), make)
        found: list[metrics_.Metrics] = []
        for batch in self._batches(step, variables, split):
            if receive is not None:
                receive(jax.device_get(batch["gathered"]))
                batch = batch["metrics"]
            if any(metric.grows for metric in batch.values()):
                # A complete split may not fit into memory.
                batch = {name: m.reduce() for name, m in jax.device_get(batch).items()}
                if len(found) == _MERGED:
                    found = [metrics_.merge(found)]
            found.append(batch)
        if not found:
            raise DataError(f"split {split!r} has no examples to evaluate on")
        merged = metrics_.merge(jax.device_get(found))
        examples = int(merged.pop("examples").count)
        return {**plain(metrics_.values(merged)), "examples": examples}

    def _gather_step(
        self, function: Callable[..., Any], first: int | None = None
    ) -> Callable[..., Any]:
        axis = self.experiment.parallel.axis_name
        return self._compile(
            (function, first), lambda: make_gather_step(function, first=first, axis_name=axis)
        )

    def _compile(self, key: Any, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        if key not in self._compiled:
            self._compiled[key] = self.experiment.parallel.compile(make())
        return self._compiled[key]

    def _batches(
        self, step: Callable[..., Any], variables: Any, split: str
    ) -> Generator[Any, None, None]:
        parallel = self.experiment.parallel
        batches = self.experiment.data.eval_batches(
            split, process_index=jax.process_index(), process_count=jax.process_count()
        )
        with contextlib.closing(self.experiment.batches_ahead(batches)) as placed:
            results: Iterator[Any] = (
                parallel.fetch(self._first(step)(variables, batch)) for batch in placed
            )
            if self.say is not None:
                results = Progress(self.say).over(results, len(batches), f"evaluating {split}")
            yield from results

    def _first(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """``step``; its first call, which compiles it, is reported if it takes long."""
        if self.say is None or step in self._called:
            return step
        self._called.add(step)
        say = self.say

        def call(*arguments: Any) -> Any:
            with noted_if_long(say, "The evaluation step is being compiled"):
                return step(*arguments)

        return call


def plain(values: Mapping[str, Value]) -> dict[str, Any]:
    """``values`` as JSON values: arrays become lists."""
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _counted(batches: list[dict[str, Any]]) -> tuple[Any, np.ndarray]:
    """The values of the examples that are not masked, and their indices."""
    mask = np.concatenate([batch["mask"] for batch in batches]).astype(bool)
    values = jax.tree.map(
        lambda *parts: np.concatenate(parts)[mask], *[batch["values"] for batch in batches]
    )
    return values, np.flatnonzero(mask)
