"""Evaluating a run, or the weights that a config loads: the results, and what they are of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.config import to_dict
from vitjax.core.text import Say
from vitjax.training import agreement, checks, evaluation_files, finite, initialization
from vitjax.training import experiment as experiments
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.runs import SavedRun, say_match
from vitjax.training.summary import environment
from vitjax.training.task import Table


class Evaluation(NamedTuple):
    """An evaluation.

    Attributes:
        experiment: what was evaluated.
        results: what the task's `evaluate` returned, with ``ensemble`` if there is one.
        record: the results, and the checkpoint, config and data that they were computed with, as
            JSON values.
        tables: classes and examples.
        name: the beginning of the names of its files.
    """

    experiment: Experiment
    results: dict[str, Any]
    record: dict[str, Any]
    tables: dict[str, Table]
    name: str

    def write(self, folder: str | Path) -> list[Path]:
        """Writes its files to ``folder``; returns their paths."""
        return evaluation_files.write(Path(folder), self.name, self.record, self.tables)


def evaluate(
    folder: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    ensemble: int | None = None,
    say: Say = print,
    progress: Say | None = None,
) -> Evaluation:
    """The results of a checkpoint of a run on one split of its data.

    Arguments and errors are those of `vitjax.evaluate`; ``progress`` receives how far it is.
    """
    with contextlib.closing(SavedRun(folder, overrides, say=say)) as run:
        run.check_evaluation(split)
        steps = None
        if ensemble is not None:
            run.experiment.task.check_ensemble()
            steps = run.best_steps(ensemble)
        agreement.check(run.experiment.config)
        task, evaluator = run.experiment.task, Evaluator(run.experiment, progress)
        variables, step = run.chosen(checkpoint, say)
        results, tables = task.evaluate_in_detail(evaluator, variables, split)
        if steps is not None:

            def members() -> Iterator[Any]:
                for step in steps:
                    yield run.variables(step, say, changes=False)[0]

            mean = task.ensemble(evaluator, members(), split)
            results = {**results, "ensemble": {"checkpoints": steps, **mean}}
        _check(run.experiment, results, split)
        used = run.experiment.config
        changed = evaluation_files.changes(to_dict(run.config), used)
        facts = {"workdir": str(run.folder), "checkpoint": checkpoint, "checkpoint_step": step}
        record = _record(run.experiment, split, results, tables, {**facts, "changes": changed})
        name = evaluation_files.stem(split, checkpoint, ensemble, changed)
        return Evaluation(run.experiment, results, record, tables, name)


def evaluate_initial(config: Any, split: str, say: Say, progress: Say | None = None) -> Evaluation:
    """The results of the initial variables of a run of ``config``.

    Arguments and errors are those of `vitjax.tasks.runs.evaluate_initial`.
    """
    known = initialization.known_classes(to_dict(config))
    if known is None:
        experiment = experiments.build(config)
    else:
        experiment = experiments.build(config, classes=known.classes, trained=True)
        if experiment.data.matched is not None:
            say_match(experiment.data.matched, known.data, experiment.config["data"], say)
    agreement.check(experiment.config)
    checks.split(split, experiment.data.splits)
    if experiment.start is None:
        say("config.init.from_checkpoint is not set: these are results of fresh parameters")
    variables, origin = initialization.variables(experiment, say)
    placed = experiment.parallel.place_state(variables)
    evaluator = Evaluator(experiment, progress)
    results, tables = experiment.task.evaluate_in_detail(evaluator, placed, split)
    _check(experiment, results, split)
    record = _record(experiment, split, results, tables, {"init": origin})
    return Evaluation(experiment, results, record, tables, split)


def _check(experiment: Experiment, results: Mapping[str, Any], split: str) -> None:
    """Raises NotFiniteError if the loss is NaN or infinite."""
    declared = {**experiment.declarations, **experiment.final_declarations}
    finite.check_results(
        results, f"the evaluation on {split}", experiment.objective.model, declared
    )


def _record(
    experiment: Experiment,
    split: str,
    results: Mapping[str, Any],
    tables: Mapping[str, Table],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of an evaluation's JSON file."""
    data = experiment.data
    known: dict[str, Any] = {} if data.episodic else {"class_names": list(data.class_names)}
    if data.matched is not None and data.matched.missing:
        known["missing_classes"] = list(data.matched.missing)
    if "per_class" in tables:
        known["per_class"] = evaluation_files.rows(tables["per_class"])
    skipped = {"skipped": sorted(data.skipped)} if data.skipped else {}
    return {
        "split": split,
        **facts,
        "results": dict(results),
        **known,
        **skipped,
        "config": experiment.config,
        **environment(),
    }
