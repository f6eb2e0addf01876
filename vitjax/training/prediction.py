"""Using a trained run: evaluating it again, and predicting images from files."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import config as configs
from vitjax import figures
from vitjax.config import user_code
from vitjax.core.atomic import write_text
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.meta import evaluation
from vitjax.tasks import segmentation_files as segmentation
from vitjax.training import checks, workdir
from vitjax.training import experiment as experiments
from vitjax.training.checkpoints import CheckpointError, Checkpoints, free_changes, sign
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.logging import read

TOP = 5


def load(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    with_data: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Experiment, Any, int]:
    """The experiment of a run's folder and the variables of one of its checkpoints.

    Args:
        folder: a run's folder.
        overrides: ``--config.`` arguments on the saved config: where the data is now, say.
        checkpoint: ``"best"``, ``"last"`` or a step; None takes the best where the run chooses one.
        with_data: whether the data itself is needed; else what the run noted of it is enough.
        say: is told what was loaded.

    Returns:
        The experiment, its variables placed on the devices, and the checkpoint's step.

    Raises:
        WorkdirError: the folder holds no run.
        CheckpointError: it has no checkpoint, or not the one asked for.
    """
    experiment, checkpoints = _open(folder, overrides, with_data=with_data)
    with contextlib.closing(checkpoints):
        step = _choose(checkpoints, checkpoint)
        return experiment, *_restored(experiment, checkpoints, step, say)


def _open(
    folder: str | Path, overrides: Sequence[str], *, with_data: bool
) -> tuple[Experiment, Checkpoints]:
    """The experiment of a run's folder, and its checkpoints to read."""
    folder = Path(folder)
    config = configs.from_json(workdir.read_config(folder))
    user_code.restore(config, folder)
    configs.override(config, overrides)
    experiment = experiments.build(config, None if with_data else workdir.read_data(folder))
    directory = folder / workdir.CHECKPOINTS
    if not directory.is_dir():
        raise CheckpointError(f"{folder}: the run has no checkpoint yet")
    return experiment, experiment.checkpoints(directory, read_only=True)


def _restored(
    experiment: Experiment,
    checkpoints: Checkpoints,
    step: int | None,
    say: Callable[[str], None],
    *,
    changes: bool = True,
) -> tuple[Any, int]:
    """The placed variables of the checkpoint of ``step``, None for the newest, and its step.

    Unless ``changes`` is False, it is said which keys of the config are others than the run's.
    """
    restored = checkpoints.restore(
        experiment.abstract_state(), config=experiment.config, step=step, say=say
    )
    if restored is None:
        raise CheckpointError(f"{checkpoints.directory.parent}: the run has no checkpoint yet")
    say(f"Checkpoint of step {restored.step} of {experiment.run.steps}")
    if changes:
        for change in free_changes(restored.config, experiment.config, read_only=True):
            say(f"  changed since: {change}")
    return experiment.parallel.place_state(restored.state.variables), restored.step


def evaluate(
    folder: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    ensemble: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The numbers of a run's checkpoint on one split of its data.

    Args:
        folder: a run's folder.
        split: one of the data's.
        overrides: as in `load`; where a checkpoint is only evaluated, all of ``data`` and
            ``objective`` may be set, such as ``--config.data.episodes.test_episodes=1000``.
        checkpoint: as in `load`.
        ensemble: of a few-shot run that chooses its best checkpoints, also average the
            probabilities of so many of them, the best by validation.
        say: is told what was loaded.

    Returns:
        `Evaluator.results`; and with ``ensemble`` under that name ``checkpoints``, their steps, and
        `vitjax.meta.evaluation.of_ensemble`.

    Raises:
        ConfigError: there is no such split, few-shot training saw classes of it, or the objective's
            outputs cannot be averaged.
        CheckpointError: fewer checkpoints are kept than the ensemble wants, or better ones are not.
    """
    experiment, checkpoints = _open(folder, overrides, with_data=True)
    with contextlib.closing(checkpoints):
        checks.split(split, experiment.data.splits)
        _check_unseen(Path(folder), experiment, split)
        steps = None
        if ensemble is not None:
            steps = _members(experiment, checkpoints, ensemble)
            _check_best(Path(folder), checkpoints, steps)
        evaluator = Evaluator(experiment)
        chosen = _choose(checkpoints, checkpoint)
        variables, _ = _restored(experiment, checkpoints, chosen, say)
        values = evaluator.results(variables, split)
        if steps is None:
            return values
        total: Any = None
        for step in steps:
            variables, _ = _restored(experiment, checkpoints, step, say, changes=False)
            answers = evaluator.query_probabilities(variables, split)
            each = answers["probabilities"]
            total = each if total is None else jax.tree.map(np.add, total, each)
    mean = {mode: summed / len(steps) for mode, summed in total.items()}
    worth = evaluation.of_ensemble(mean, answers["target"], answers["mask"])
    return {**values, "ensemble": {"checkpoints": steps, **worth}}


def _members(experiment: Experiment, checkpoints: Checkpoints, number: int) -> list[int]:
    """The steps of the ``number`` best checkpoints, the best first."""
    objective: Any = experiment.objective
    if not hasattr(objective, "query_probabilities") or objective.regression:
        raise ConfigError(
            f"--ensemble={number}: the objective {type(objective).__name__} has no probabilities of"
            " queries to average; those of few-shot classification by gradient steps have"
        )
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
            f"--ensemble={number}: the run has kept {len(steps)} checkpoints that were evaluated"
            f" (steps {kept}); config.checkpoint.keep_best = {number} in training keeps as many of"
            " the best, config.checkpoint.keep of the newest"
        )
    return steps[:number]


def _check_unseen(folder: Path, experiment: Experiment, split: str) -> None:
    """Raises ConfigError if few-shot training saw classes of ``split``."""
    trained, evaluated = (
        configs.from_json(workdir.read_config(folder)).data,
        experiment.config["data"],
    )
    # The same names in another data set ("0", "1") need not be the same classes.
    if all(trained.get(key) == evaluated.get(key) for key in ("source", "dataset")):
        checks.unseen(workdir.read_data(folder) or {}, experiment.data, split)


def _check_best(folder: Path, checkpoints: Checkpoints, steps: Sequence[int]) -> None:
    """Raises CheckpointError if the run saw better states than ``steps``, and kept them not."""
    assert checkpoints.best is not None
    split, _, name = checkpoints.best.partition("/")
    kept = checkpoints.steps()
    records = [r for r in read(folder / workdir.METRICS) if r["split"] == split]
    # Of a step that stands twice, as after a crash and a resume, the later record counts. What is
    # newer than all checkpoints, the run will come to again.
    scores = {
        r["step"]: sign(name) * r[name]
        for r in records
        if r.get(name) is not None and r["step"] <= kept[-1]
    }
    worst = min(scores.get(step, math.inf) for step in steps)
    lost = sorted(step for step, score in scores.items() if score > worst and step not in kept)
    if lost:
        raise CheckpointError(
            f"--ensemble={len(steps)}: these would not be the best: by {checkpoints.best},"
            f" {len(lost)} evaluated steps that are kept no more ({_listed(lost)}) were better than"
            f" some of those that are ({_listed(sorted(steps))}). config.checkpoint.keep_best ="
            f" {len(steps)} in training keeps the best"
        )


def _listed(steps: Sequence[int], most: int = 8) -> str:
    return ", ".join(map(str, steps[:most])) + (", ..." if len(steps) > most else "")


def predict(
    folder: str | Path,
    images: Sequence[str | Path],
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Callable[[str], None] = print,
    **how: Any,
) -> list[dict[str, Any]]:
    """The most probable classes of image files, or of a segmentation run their masks.

    Args:
        folder: a run's folder.
        images: paths of image files; each is read and transformed as in an evaluation.
        output: where ``predictions.jsonl`` and ``predictions.png`` go, or the masks; None writes
            nothing.
        overrides: as in `load`.
        checkpoint: as in `load`.
        say: is told what was loaded.
        **how: of a segmentation run, the keywords of `vitjax.tasks.segmentation_files.predict`.

    Returns:
        For each image ``{"image": path, "predictions": [{"class": .., "probability": ..}, ...]}``,
        the five most probable classes in order; or what `segmentation.predict` gives.

    Raises:
        DataError: an image cannot be read; the message names the file. Nothing is written.
        ConfigError: the run's objective predicts no classes.
    """
    experiment, variables, _ = load(
        folder, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    objective: Any = experiment.objective
    if not hasattr(objective, "predict"):
        hint = ""
        if hasattr(objective, "measure"):
            hint = (
                " of single files: in few-shot learning the classes are those of a support set;"
                " `vitjax evaluate` measures that"
            )
        raise ConfigError(
            f"{folder}: the objective {type(objective).__name__} predicts no classes{hint}"
        )
    variables = experiment.parallel.fetch(variables)
    if hasattr(objective, "per_pixel"):
        return segmentation.predict(experiment, variables, images, output, **how)
    if given := [key for key, value in how.items() if value]:
        raise ConfigError(f"{folder}: {given[0]!r} is for segmentation, and this run classifies")
    arrays = [experiment.data.read_image(path) for path in images]
    step = jax.jit(objective.predict)
    probabilities = np.concatenate(
        [np.asarray(step(variables, batch)) for batch in _batches(arrays)]
    )
    if not np.isfinite(probabilities).all():
        raise CheckpointError(f"{folder}: the checkpoint's model gives probabilities of NaN")
    names = experiment.class_names
    results = []
    for path, row in zip(images, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:TOP]
        top = [{"class": names[i], "probability": round(float(row[i]), 6)} for i in order]
        results.append({"image": str(path), "predictions": top})
    if output is not None:
        output = Path(output)
        write_text(
            output / "predictions.jsonl", "".join(json.dumps(result) + "\n" for result in results)
        )
        figures.predictions(
            arrays, [str(path) for path in images], probabilities, names, output / "predictions.png"
        )
    return results


def _choose(checkpoints: Any, wanted: str | int | None) -> int | None:
    """The step of the checkpoint that is ``wanted``; None for the newest that is whole."""
    if wanted == "last":
        return None
    if wanted in (None, "best"):
        best = checkpoints.best_step()
        if wanted == "best" and best is None:
            raise CheckpointError(
                "--checkpoint=best: this run chooses no best checkpoint (config.checkpoint.best)"
            )
        return best
    try:
        return int(wanted)
    except ValueError:
        raise ConfigError(
            f"--checkpoint={wanted}: should be 'best', 'last' or a step"
            f"{near_match(str(wanted), ('best', 'last'))}"
        ) from None


def _batches(arrays: Sequence[np.ndarray], size: int = 64) -> Iterable[dict[str, Any]]:
    """Small batches: any number of images in bounded memory."""
    for start in range(0, len(arrays), size):
        yield {"image": jnp.asarray(np.stack(arrays[start : start + size]))}
