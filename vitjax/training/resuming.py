"""What a run that resumes continues, and whether its data is still what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.data.class_order import ClassList
from vitjax.training import checks, saved_progress, workdir
from vitjax.training.experiment import Experiment
from vitjax.training.saved_progress import ClassDigests
from vitjax.training.settings import EarlyStopping


class DataNow(NamedTuple):
    """The data at hand.

    Attributes:
        examples: what a run learns from, as of `vitjax.data.Dataset.identity`.
        described: as of `vitjax.data.Dataset.describe`.
        classes: the digests of the classes that outputs stand for; None where each episode has its
            own.
    """

    examples: Mapping[str, Any]
    described: Mapping[str, Any]
    classes: ClassDigests | None

    @classmethod
    def of(cls, experiment: Experiment) -> DataNow:
        """The data of ``experiment``."""
        data, classes = experiment.data, None
        described = data.describe()
        if not data.episodic and data.target != "none":
            classes = saved_progress.class_digests(ClassList.described(described))
        return cls(data.identity(), described, classes)


class Patience(NamedTuple):
    """The memory of early stopping."""

    best: float | None
    evaluations_since_best: int

    @classmethod
    def saved(cls, progress: Mapping[str, Any], rule: EarlyStopping | None) -> Patience:
        """What ``progress`` says of it; a best value of another metric says nothing."""
        metric = rule.metric if rule is not None else None
        if progress.get("stopping_metric", metric) != metric:
            return cls(None, 0)
        return cls(progress.get("best"), progress.get("evaluations_since_best", 0))

    def used_up(self, rule: EarlyStopping | None) -> bool:
        """Whether the run stops by ``rule``."""
        return rule is not None and self.evaluations_since_best >= rule.patience


class Resumed(NamedTuple):
    """A checkpoint that a run continues."""

    step: int
    progress: Mapping[str, Any]

    def has_ended(self, experiment: Experiment) -> bool:
        """Whether no step is left after it."""
        rule = experiment.settings.early_stopping
        patience = Patience.saved(self.progress, rule)
        return self.step >= experiment.run.steps or patience.used_up(rule)

    def check(
        self,
        experiment: Experiment,
        folder: Path,
        now: DataNow,
        *,
        accept: bool,
        again: bool = False,
    ) -> str:
        """Checks that a run continues with its own classes and examples.

        Args:
            experiment: what is trained.
            folder: the run's folder.
            now: the data at hand.
            accept: whether other examples are accepted; without a step left they always are.
            again: whether checkpoints were put aside since the first check.

        Returns:
            What differs in the examples, in words.

        Raises:
            DataError: something differs, and is not accepted.
        """
        path = str(folder / workdir.DATA)
        checks.same_numbers(self.progress.get("classes"), now.classes, path)
        accept = accept or self.has_ended(experiment)
        before = self.progress.get("data")
        return checks.same_data(before, now.examples, accept=accept, untouched=not again)


def check(experiment: Experiment, folder: Path, now: DataNow, accept_data_change: bool) -> None:
    """Checks that the run in ``folder`` is resumed by its own config and data; changes nothing.

    Args:
        experiment: what is trained.
        folder: the run's folder, which has checkpoints.
        now: the experiment's data.
        accept_data_change: as of `vitjax.training.loop.train`.

    Raises:
        ConfigError, DataError, CheckpointError: as of `vitjax.training.loop.train`.
    """
    described = workdir.read_data(folder) or {}
    checks.same_classes(described, experiment.data)
    experiment.task.check_resume(described)
    directory = folder / workdir.CHECKPOINTS
    with contextlib.closing(
        experiment.checkpoints(directory, read_only=True, resuming=True)
    ) as checkpoints:
        found = checkpoints.inspect(experiment.abstract_state(), config=experiment.config)
    if found is not None:
        Resumed(*found).check(experiment, folder, now, accept=accept_data_change)
