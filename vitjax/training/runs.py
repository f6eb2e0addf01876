"""A finished or unfinished run, read back from its folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax.config import user_code
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, shortened
from vitjax.training import checks, workdir
from vitjax.training import experiment as experiments
from vitjax.training.checkpoints import CheckpointError, Checkpoints
from vitjax.training.compatibility import free_changes
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.logging import read

Say = Callable[[str], None]


class SavedRun:
    """The experiment of a run's folder, and its checkpoints to read.

    Attributes:
        folder: the run's folder.
        config: the config that the run was started with, as a ConfigDict.
        experiment: of that config and the overrides.
        checkpoints: of the run.
    """

    def __init__(
        self,
        folder: str | Path,
        overrides: Sequence[str] = (),
        *,
        with_data: bool = True,
        say: Say = print,
    ):
        """Opens a run.

        Args:
            folder: a run's folder.
            overrides: ``--config.`` arguments on the saved config: where the data is now, say.
            with_data: whether the data itself is needed; else what the run recorded of it is
                enough.
            say: receives what has changed since the run was started.

        Raises:
            WorkdirError: the folder holds no run.
            CheckpointError: the run has no checkpoint.
        """
        self.folder = Path(folder)
        self.config = configs.from_json(workdir.read_config(self.folder))
        user_code.restore(self.config, self.folder, say)
        config = self.config.copy_and_resolve_references()
        configs.override(config, overrides)
        self.described = workdir.read_data(self.folder)
        self.experiment: Experiment = experiments.build(
            config, None if with_data else self.described
        )
        directory = self.folder / workdir.CHECKPOINTS
        if not directory.is_dir():
            raise CheckpointError(f"{self.folder}: the run has no checkpoint yet")
        self.checkpoints: Checkpoints = self.experiment.checkpoints(directory, read_only=True)

    def close(self) -> None:
        """Closes the checkpoints."""
        self.checkpoints.close()

    def step(self, wanted: str | int | None) -> int | None:
        """The step of the checkpoint that a person asks for; None for the newest readable one.

        Args:
            wanted: ``"best"``, ``"last"`` or a step; None for the best where the run chooses one.

        Raises:
            CheckpointError: the run chooses no best checkpoint.
            ConfigError: ``wanted`` is neither of these.
        """
        if wanted == "last":
            return None
        if wanted in (None, "best"):
            best = self.checkpoints.best_step()
            if wanted == "best" and best is None:
                raise CheckpointError(
                    "--checkpoint=best: this run chooses no best checkpoint"
                    " (config.checkpoint.best)"
                )
            return best
        try:
            return int(wanted)
        except ValueError:
            raise ConfigError(
                f"--checkpoint={wanted}: should be 'best', 'last' or a step"
                f"{near_match(str(wanted), ('best', 'last'))}"
            ) from None

    def variables(self, step: int | None, say: Say, *, changes: bool = True) -> tuple[Any, int]:
        """The placed variables of a checkpoint, and its step.

        Args:
            step: its step; None for the newest readable one.
            say: receives what was loaded.
            changes: whether to report the keys of the config that differ from the run's.

        Raises:
            CheckpointError: there is none, or it is of another model.
        """
        experiment = self.experiment
        restored = self.checkpoints.restore(
            experiment.abstract_state(), config=experiment.config, step=step, say=say
        )
        if restored is None:
            raise CheckpointError(f"{self.folder}: the run has no checkpoint yet")
        say(f"Checkpoint of step {restored.step} of {experiment.run.steps}")
        if changes:
            for change in free_changes(restored.config, experiment.config, read_only=True):
                say(f"  changed since: {change}")
        return experiment.parallel.place_state(restored.state.variables), restored.step

    def check_evaluation(self, split: str) -> None:
        """Checks that the run can be evaluated on ``split`` of the experiment's data.

        Raises:
            ConfigError: there is no such split, or the task sees that the numbers mean nothing.
        """
        checks.split(split, self.experiment.data.splits)
        trained, evaluated = self.config.data, self.experiment.config["data"]
        # The same names in another data set ("0", "1") need not be the same classes.
        if all(trained.get(key) == evaluated.get(key) for key in ("source", "dataset")):
            self.experiment.task.check_evaluation(self.described or {}, split)

    def best_steps(self, number: int) -> list[int]:
        """The steps of the ``number`` best checkpoints, the best first.

        Raises:
            ConfigError: the run does not choose checkpoints, or ``number`` is below 2.
            CheckpointError: fewer are kept, or better ones are not.
        """
        checkpoints = self.checkpoints
        if number < 2:
            raise ConfigError(f"--ensemble={number}: an ensemble has at least 2 checkpoints")
        if checkpoints.best is None:
            raise ConfigError(
                f"--ensemble={number}: the run has no metric to choose checkpoints by"
                ' (config.checkpoint.best, such as "val/accuracy")'
            )
        steps = checkpoints.best_steps()
        if len(steps) < number:
            kept = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(
                f"--ensemble={number}: the run has kept {len(steps)} checkpoints that were"
                f" evaluated (steps {kept}); config.checkpoint.keep_best = {number} in training"
                " keeps as many of the best, config.checkpoint.keep of the newest"
            )
        self._check_best(steps[:number])
        return steps[:number]

    def _check_best(self, steps: Sequence[int]) -> None:
        """Raises CheckpointError if the run saw better states than ``steps`` that are not kept."""
        assert self.checkpoints.best is not None
        split, _, name = self.checkpoints.best.partition("/")
        kept = self.checkpoints.steps()
        records = [r for r in read(self.folder / workdir.METRICS) if r["split"] == split]
        # Of a step that stands twice, as after a crash and a resume, the later record counts. The
        # run will come again to what is newer than all checkpoints.
        scores = {
            record["step"]: self.checkpoints.sign * record[name]
            for record in records
            if record.get(name) is not None and record["step"] <= kept[-1]
        }
        worst = min(scores.get(step, math.inf) for step in steps)
        lost = sorted(step for step, score in scores.items() if score > worst and step not in kept)
        if lost:
            raise CheckpointError(
                f"--ensemble={len(steps)}: these would not be the best: by {self.checkpoints.best},"
                f" {len(lost)} evaluated steps that are no longer kept ({shortened(lost, 8)}) were"
                f" better than some of those that are ({shortened(sorted(steps), 8)})."
                f" config.checkpoint.keep_best = {len(steps)} in training keeps the best"
            )


def load(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    with_data: bool = True,
    say: Say = print,
) -> tuple[Experiment, Any, int]:
    """The experiment of a run's folder, the variables of one of its checkpoints, and its step.

    Args:
        folder: as `SavedRun` takes it.
        overrides: as `SavedRun` takes them.
        checkpoint: as `SavedRun.step` takes it.
        with_data: as `SavedRun` takes it.
        say: receives what was loaded.

    Raises:
        WorkdirError: the folder holds no run.
        CheckpointError: it has no checkpoint, or not the one asked for.
    """
    with contextlib.closing(SavedRun(folder, overrides, with_data=with_data, say=say)) as run:
        return run.experiment, *run.variables(run.step(checkpoint), say)


def evaluate(
    folder: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    ensemble: int | None = None,
    say: Say = print,
) -> tuple[Experiment, dict[str, Any]]:
    """The results of a run's checkpoint on one split of its data.

    Args:
        folder: a run's folder.
        split: one of the data's.
        overrides: as in `SavedRun`; where a checkpoint is only evaluated, all of ``data`` and
            ``objective`` may be set, such as ``--config.data.episodes.test_episodes=1000``.
        checkpoint: as in `SavedRun.step`.
        ensemble: for a few-shot run that chooses its best checkpoints, also average the
            probabilities of this number of them, the best by validation.
        say: receives what was loaded.

    Returns:
        The experiment, and what its task's `Task.evaluate` returns; with ``ensemble`` under that
        name `Task.ensemble` and ``checkpoints``, their steps.

    Raises:
        ConfigError: there is no such split, few-shot training saw classes of it, or the objective's
            outputs cannot be averaged.
        CheckpointError: fewer checkpoints are kept than the ensemble needs, or better ones are not.
    """
    with contextlib.closing(SavedRun(folder, overrides, say=say)) as run:
        run.check_evaluation(split)
        steps = None
        if ensemble is not None:
            run.experiment.task.check_ensemble()
            steps = run.best_steps(ensemble)
        task, evaluator = run.experiment.task, Evaluator(run.experiment)
        variables, _ = run.variables(run.step(checkpoint), say)
        results = task.evaluate(evaluator, variables, split)
        if steps is not None:

            def members() -> Iterator[Any]:
                for step in steps:
                    yield run.variables(step, say, changes=False)[0]

            mean = task.ensemble(evaluator, members(), split)
            results = {**results, "ensemble": {"checkpoints": steps, **mean}}
        return run.experiment, results
