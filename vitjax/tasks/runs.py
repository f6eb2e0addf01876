"""The Python interface: build, train, evaluate, predict and load a run of any task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import Say
from vitjax.tasks import prediction
from vitjax.tasks.loaded import Loaded
from vitjax.training import experiment as experiments
from vitjax.training import loop, run_evaluation, runs
from vitjax.training.experiment import Experiment
from vitjax.training.workdir import CONFIG, Started


def build(config: Any) -> Experiment:
    """Builds everything that a config names, without training.

    Args:
        config: a ConfigDict or a dict of sections, or the path of a config file.

    Raises:
        ConfigError: an unknown section, name or key, naming the near match.
        DataError: the data cannot be read.
    """
    return experiments.build(_loaded(config))


def train(
    config: Any | None,
    workdir: str | Path,
    overrides: Sequence[str] = (),
    say: Say = print,
    *,
    accept_data_change: bool = False,
    at_end: loop.AtEnd | None = None,
) -> dict[str, Any]:
    """Trains what a config describes, or resumes it from the newest checkpoint in ``workdir``.

    Args:
        config: as in `build`; None resumes the run in ``workdir`` by the config that it saved.
        workdir: the run's folder; it is created.
        overrides: ``--config.key=value`` arguments.
        say: receives progress messages.
        accept_data_change: resume although the examples are not those that the run was trained on.
        at_end: see `vitjax.training.loop.train`.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        ConfigError, DataError: as in `build`; ``config`` is None and ``workdir`` holds no run, or
            the run there has other classes or was trained on other examples.
        DivergedError: the loss or a gradient is NaN or infinite.
        Interrupted: after SIGTERM or SIGINT, with a checkpoint written.
    """
    workdir = expanded(workdir)
    naming: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if config is None:
        if not os.path.lexists(Path(workdir, CONFIG)):
            raise ConfigError(
                f"config is missing, and {workdir} holds no run to resume (no {CONFIG}); a new run"
                " needs one (--config=FILE)"
            )
        config = runs.read_config(workdir, say)
        naming = runs.naming_config(Path(workdir), config)
        config = configs.from_json(configs.to_json(config))
        started = None  # what its folder says already
    else:
        file = str(config) if isinstance(config, str | Path) else None
        config = _loaded(config)
        started = Started(file, list(overrides), _as_written(config))
    with naming:
        configs.override(config, overrides)
        experiment = runs.to_resume(config, workdir, say)
    return loop.train(
        experiment,
        workdir,
        say,
        accept_data_change=accept_data_change,
        started=started,
        at_end=at_end,
    )


def evaluate(
    workdir: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    ensemble: int | None = None,
    output: str | Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """The results of a run on one split of its data.

    Args:
        workdir: the run's folder.
        split: one of the data's splits.
        overrides: ``--config.key=value`` arguments on the run's config; all of ``data`` and
            ``objective`` may be changed, such as the number of test episodes.
        checkpoint: ``"best"``, ``"last"`` or a step; None for the best if the run chooses one.
        ensemble: few-shot: the number of best checkpoints whose probabilities are averaged too.
        output: a folder for the results as JSON, and for classes and examples as CSV, as of
            ``vitjax evaluate``; None writes nothing.
        say: receives what was loaded.

    Returns:
        The results of the task, such as ``{"loss": .., "accuracy": .., "examples": ..}``. With
        ``ensemble``, that key holds the results of the averaged probabilities, and the steps of the
        checkpoints.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run or no such checkpoint, or some of the
            best checkpoints are not kept.
        ConfigError: the data has no such split or classes that the run does not have, the task
            refuses to evaluate on it, or it has no probabilities to average.
    """
    found = run_evaluation.evaluate(
        workdir, split, overrides, checkpoint=checkpoint, ensemble=ensemble, say=say
    )
    if output is not None:
        found.write(output)
    return found.results


def evaluate_initial(
    config: Any, split: str = "test", overrides: Sequence[str] = (), say: Say = print
) -> tuple[Experiment, dict[str, Any]]:
    """The results of the initial variables of a run of ``config``, on one split of its data.

    Args:
        config: as in `build`; weights are loaded as its ``init`` section says.
        split: one of the data's splits.
        overrides: as in `train`.
        say: receives what was loaded.

    Raises:
        ConfigError: as in `build`, or the data has no such split.
        WeightsError: the weights cannot be read, or do not fit.
    """
    return run_evaluation.evaluate_initial(_loaded(config, overrides), split, say)[:2]


def predict(
    workdir: str | Path,
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
    **options: Any,
) -> list[dict[str, Any]]:
    """The predictions of a run's model for files.

    Args:
        workdir: the run's folder.
        files: image files, folders of them, wildcards, or ``"@FILE"`` for a list in a text file;
            see `vitjax.core.file_lists.find_images`. Images are transformed as in evaluation.
        output: the folder for the results; None writes nothing.
        overrides: as in `evaluate`.
        checkpoint: as in `evaluate`.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives what was loaded, the speed, and what was skipped.
        **options: keywords of the task's `Task.predict`, such as ``tile`` for segmentation, ``top``
            for classification and ``support`` for few-shot learning; None leaves the default.
            ``on_corrupt="skip"`` gives an ``"error"`` for a file that cannot be read.

    Returns:
        JSON values for each file, once; see the task. `vitjax.tasks.prediction.start` gives them
        one after the other.

    Raises:
        DataError: a file cannot be read; the message names it. Nothing is written then.
        ConfigError: a path does not exist; the task has no predictions for files, or no such
            option; a file would be replaced that no earlier command wrote.
    """
    started = prediction.start(
        workdir,
        files,
        output,
        overrides,
        checkpoint=checkpoint,
        overwrite=overwrite,
        say=say,
        **options,
    )
    return list(started.results)


def load(
    workdir: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Say = print,
) -> Loaded:
    """The model of a run, its variables, the preprocessing of its images, and its predictions.

    >>> run = vitjax.load("runs/digits")
    >>> run.predict("seven.png")[0]["predictions"][0]["class"]
    '7'
    >>> model, variables, preprocess = run
    >>> logits = model.apply(variables, preprocess("seven.png"))

    Args:
        workdir: the run's folder.
        overrides: as in `evaluate`.
        checkpoint: as in `evaluate`.
        say: receives what was loaded.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
    """
    experiment, placed, _ = runs.load(
        workdir, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    return Loaded(experiment, experiment.parallel.fetch(placed))


def _as_written(config: Any) -> dict[str, Any] | None:
    """``config`` as plain values; None if it requires values that it does not have."""
    try:
        found: dict[str, Any] = configs.to_dict(config)
        return found
    except ConfigError:
        return None


def _loaded(config: Any, overrides: Sequence[str] = ()) -> Any:
    """``config``, loaded if it is a path, with overrides."""
    if isinstance(config, str | Path):
        config = configs.load(config)
    else:
        # A copy: paths of `imports` become absolute below, and the caller's config stays as it is.
        config = configs.from_json(configs.to_json(config))
    configs.override(config, overrides)
    return config
