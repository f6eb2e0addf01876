"""The end of a run: first the final results and versions, then the figures."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from vitjax import figures
from vitjax.core.atomic import write_json
from vitjax.parallel.devices import describe_devices
from vitjax.training import finite, workdir
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read

_PACKAGES = ("vitjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write(
    evaluator: Evaluator,
    variables: Any,
    folder: Path,
    facts: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluates on all held-out splits, writes ``summary.json``, then draws the figures.

    Args:
        evaluator: the evaluator of the run's experiment.
        variables: the final variables of the run, placed on the devices.
        folder: the run's folder.
        facts: facts of the training that are added to the results.
        say: receives the results, and the path of the figures.

    Returns:
        The contents of ``summary.json``.

    Raises:
        NotFiniteError: the loss on a split is NaN or infinite; nothing is written then.
    """
    experiment = evaluator.experiment
    task, first_host = experiment.task, jax.process_index() == 0
    results: dict[str, Any] = {
        split: task.evaluate(evaluator, variables, split)
        for split in ("test", "val")
        if split in experiment.data.splits
    }
    for split, found in results.items():
        finite.check_results(
            found,
            f"the evaluation of the final state on {split}",
            experiment.objective.model,
            {**experiment.declarations, **experiment.final_declarations},
        )
    summary = {**results, **facts, "seed": experiment.seed, **environment()}
    if experiment.data.skipped:
        summary["skipped"] = sorted(experiment.data.skipped)
        say(f"{len(experiment.data.skipped)} unreadable images were skipped; see summary.json")
    if first_host:
        write_json(folder / workdir.SUMMARY, summary)
    for split, found in results.items():
        with warning(f"the results of {split} cannot be printed", say):
            for line in task.describe(found):
                say(f"{split}: {line}")
    _draw(evaluator, variables, results, folder, say)
    return summary


def _draw(
    evaluator: Evaluator,
    variables: Any,
    results: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Draws the curves and the figures of the task."""
    folder_of_figures = folder / workdir.FIGURES
    experiment = evaluator.experiment

    def curves() -> None:
        if jax.process_index() == 0:
            records = read(folder / workdir.METRICS)
            figures.curves(records, folder_of_figures / "curves.png", experiment.declarations)

    def task_figures() -> None:
        experiment.task.report(evaluator, variables, results, folder_of_figures)

    for name, draw in (("curves", curves), (experiment.objective.task, task_figures)):
        with warning(f"figures ({name}) are missing", say):
            draw()
    if folder_of_figures.is_dir() and any(folder_of_figures.iterdir()):
        say(f"Figures: {folder_of_figures}")


@contextlib.contextmanager
def warning(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Turns an error into a warning: the results of the run are already on disk."""
    try:
        yield
    except Exception as error:
        say(f"warning: {what}: {type(error).__name__}: {error}")


def environment() -> dict[str, Any]:
    """The device, the versions and the git revision that results were computed with."""
    return {
        "device": describe_devices(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    """The revision of the code, with ``+`` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        return revision + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
