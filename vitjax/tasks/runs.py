"""The Python interface: build, train, evaluate, predict and load a run of any task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from vitjax import config as configs
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import Say
from vitjax.core.validation import check_keywords
from vitjax.models.protocol import Model
from vitjax.training import checks, initialization, loop, runs
from vitjax.training import experiment as experiments
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.workdir import CONFIG


class Preprocess:
    """Prepares images for a run's model, as in evaluation.

    Attributes:
        class_names: the names of the model's outputs.
    """

    def __init__(self, experiment: Experiment):
        self._data = experiment.data
        self.class_names = experiment.task.class_names

    def __call__(self, *images: str | Path | np.ndarray) -> Float[Array, "batch ..."]:
        """A batch of image files, or of images as arrays (height, width, channels), normalised.

        Files are read and transformed as in evaluation; arrays are only normalised.

        Raises:
            DataError: a file cannot be read; the message names it.
        """
        images = expanded(images)
        read = [x if isinstance(x, np.ndarray) else self._data.read_image(x) for x in images]
        normalized: Array = self._data.normalize(np.stack(read))
        return normalized


class Loaded(NamedTuple):
    """A run's model, ready to use.

    Attributes:
        model: a Linen module: ``model.apply(variables, images)``.
        variables: those of the model, one copy: the moving average if the run keeps one.
        preprocess: turns image files into inputs of the model; has the class names.
    """

    model: Model
    variables: dict[str, Any]
    preprocess: Preprocess


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
) -> dict[str, Any]:
    """Trains what a config describes, or resumes it from the newest checkpoint in ``workdir``.

    Args:
        config: as in `build`; None resumes the run in ``workdir`` by the config that it saved.
        workdir: the run's folder; it is created.
        overrides: ``--config.key=value`` arguments.
        say: receives progress messages.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        ConfigError, DataError: as in `build`; ``config`` is None and ``workdir`` holds no run.
        DivergedError: the loss or a gradient is NaN or infinite.
        Interrupted: after SIGTERM or SIGINT, with a checkpoint written.
    """
    workdir = expanded(workdir)
    if config is None:
        if not Path(workdir, CONFIG).is_file():
            raise ConfigError(
                f"config is missing, and {workdir} holds no run to resume (no {CONFIG}); a new run"
                " needs one (--config=FILE)"
            )
        config = runs.read_config(workdir, say)
    return loop.train(experiments.build(_loaded(config, overrides)), workdir, say)


def evaluate(
    workdir: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    ensemble: int | None = None,
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
        say: receives what was loaded.

    Returns:
        The results of the task, such as ``{"loss": .., "accuracy": .., "examples": ..}``. With
        ``ensemble``, that key holds the results of the averaged probabilities, and the steps of the
        checkpoints.

    Raises:
        WorkdirError, CheckpointError: the folder holds no run or no such checkpoint, or some of the
            best checkpoints are not kept.
        ConfigError: the data has no such split, the task refuses to evaluate on it, or it has no
            probabilities to average.
    """
    return runs.evaluate(
        workdir, split, overrides, checkpoint=checkpoint, ensemble=ensemble, say=say
    )[1]


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
    experiment = experiments.build(_loaded(config, overrides))
    checks.split(split, experiment.data.splits)
    if experiment.start is None:
        say("config.init.from_checkpoint is not set: these are results of fresh parameters")
    placed = experiment.parallel.place_state(initialization.variables(experiment, say)[0])
    return experiment, experiment.task.evaluate(Evaluator(experiment), placed, split)


def predict(
    workdir: str | Path,
    files: Sequence[str | Path],
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Say = print,
    **options: Any,
) -> list[dict[str, Any]]:
    """The predictions of a run's model for files.

    Args:
        workdir: the run's folder.
        files: paths of image files; each is read and transformed as in evaluation.
        output: the folder for the results; None writes nothing.
        overrides: as in `evaluate`.
        checkpoint: as in `evaluate`.
        say: receives what was loaded.
        **options: keywords of the task's `Task.predict`, such as ``tile`` for segmentation; None
            leaves the default.

    Returns:
        JSON values for each file; see the task.

    Raises:
        DataError: a file cannot be read; the message names it. Nothing is written then.
        ConfigError: the task has no predictions for files, or no such option.
    """
    return prediction_table(
        workdir, files, output, overrides, checkpoint=checkpoint, say=say, **options
    )[0]


def prediction_table(
    workdir: str | Path,
    files: Sequence[str | Path],
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Say = print,
    **options: Any,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The result of `predict`, and its lines of text."""
    files, output = expanded(files), expanded(output)
    if not files:
        raise ConfigError("no files are given to predict")
    experiment, placed, _ = runs.load(
        workdir, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    task = experiment.task
    options = {name: value for name, value in options.items() if value is not None}
    check_keywords(
        task.predict,
        options,
        where=f"{workdir}: options of predict, for the task {experiment.objective.task}",
        given=("variables", "files", "output"),
    )
    found = task.predict(experiment.parallel.fetch(placed), files, output, **options)
    return found, task.table(found)


def load(
    workdir: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Say = print,
) -> Loaded:
    """The model of a run, its variables, and the preprocessing of its images.

    >>> model, variables, preprocess = vitjax.load("runs/digits")
    >>> logits = model.apply(variables, preprocess("seven.png"))
    >>> preprocess.class_names[int(logits[0].argmax())]
    '7'

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
    objective = experiment.objective
    variables = objective.unwrap(experiment.parallel.fetch(placed))
    return Loaded(objective.model, variables, Preprocess(experiment))


def _loaded(config: Any, overrides: Sequence[str] = ()) -> Any:
    """``config``, loaded if it is a path, with overrides."""
    if isinstance(config, str | Path):
        config = configs.load(config)
    else:
        # A copy: paths of `imports` become absolute below, and the caller's config stays as it is.
        config = configs.from_json(configs.to_json(config))
    configs.override(config, overrides)
    return config
