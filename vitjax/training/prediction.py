"""Using a trained run: evaluating it again, and predicting images from files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax import config as configs
from vitjax import figures
from vitjax.registry import ConfigError, near_match
from vitjax.training import experiment as experiments
from vitjax.training import workdir
from vitjax.training.checkpoints import CheckpointError
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment

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
    folder = Path(folder)
    config = configs.from_json(workdir.read_config(folder))
    configs.override(config, overrides)
    noted = folder / workdir.DATA
    description = None if with_data or not noted.is_file() else json.loads(noted.read_text())
    experiment = experiments.build(config, description)
    directory = folder / workdir.CHECKPOINTS
    if not directory.is_dir():
        raise CheckpointError(f"{folder}: the run has no checkpoint yet")
    checkpoints = experiment.checkpoints(directory, read_only=True)
    step = _choose(checkpoints, checkpoint)
    restored = checkpoints.restore(
        experiment.abstract_state(), config=experiment.config, step=step, say=say
    )
    checkpoints.close()
    if restored is None:
        raise CheckpointError(f"{folder}: the run has no checkpoint yet")
    say(f"Checkpoint of step {restored.step} of {experiment.run.steps}")
    variables = experiment.parallel.place_state(restored.state.variables)
    return experiment, variables, restored.step


def evaluate(
    folder: str | Path,
    split: str = "test",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """The metrics of a run's checkpoint on one split of its data.

    Raises:
        ConfigError: there is no such split.
    """
    experiment, variables, _ = load(folder, overrides, checkpoint=checkpoint, say=say)
    if split not in experiment.data.splits:
        near = near_match(split, experiment.data.splits)
        raise ConfigError(
            f"--split={split}: the data has no such split{near}"
            f" (there are: {', '.join(experiment.data.splits)})"
        )
    return Evaluator(experiment).metrics(variables, split)


def predict(
    folder: str | Path,
    images: Sequence[str | Path],
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """The most probable classes of image files.

    Args:
        folder: a run's folder.
        images: paths of image files; each is read and transformed as in an evaluation.
        output: where ``predictions.jsonl`` and ``predictions.png`` go; None writes neither.
        overrides: as in `load`.
        checkpoint: as in `load`.
        say: is told what was loaded.

    Returns:
        For each image ``{"image": path, "predictions": [{"class": .., "probability": ..}, ...]}``,
        the five most probable classes in order.

    Raises:
        DataError: an image cannot be read; the message names the file. Nothing is written.
        ConfigError: the run's objective predicts no classes.
    """
    experiment, variables, _ = load(
        folder, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    objective: Any = experiment.objective
    if not hasattr(objective, "predict"):
        raise ConfigError(f"{folder}: the objective {type(objective).__name__} predicts no classes")
    arrays = [experiment.data.read_image(path) for path in images]
    variables = experiment.parallel.fetch(variables)
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
        workdir.write_text(
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
