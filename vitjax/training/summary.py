"""The end of a run: final numbers and versions first, figures after them."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from vitjax import figures
from vitjax.core.atomic import write_json
from vitjax.parallel.devices import describe_devices
from vitjax.training import workdir
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
        evaluator: of the run's experiment.
        variables: what the run stands for, placed on the devices.
        folder: the run's folder.
        facts: numbers of the training to keep beside those of the evaluation.
        say: receives the results, and where the figures are.

    Returns:
        What ``summary.json`` holds.
    """
    experiment = evaluator.experiment
    task, first_host = experiment.task, jax.process_index() == 0
    results = {
        split: task.evaluate(evaluator, variables, split)
        for split in ("test", "val")
        if split in experiment.data.splits
    }
    summary = {**results, **facts, "seed": experiment.seed, **environment()}
    if experiment.data.skipped:
        summary["skipped"] = sorted(experiment.data.skipped)
        say(f"{len(experiment.data.skipped)} unreadable images were skipped; see summary.json")
    if first_host:
        write_json(folder / workdir.SUMMARY, summary)
    for split, found in results.items():
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
    """Draws what any run has, and what the task has; no error ends the run."""
    pictures = folder / workdir.FIGURES
    experiment = evaluator.experiment

    def curves() -> None:
        if jax.process_index() == 0:
            records = read(folder / workdir.METRICS)
            figures.curves(records, pictures / "curves.png", experiment.declarations)

    def of_the_task() -> None:
        experiment.task.report(evaluator, variables, results, pictures)

    for name, draw in (("curves", curves), (experiment.objective.task, of_the_task)):
        try:
            draw()
        except Exception as error:
            say(f"warning: figures ({name}) are missing: {type(error).__name__}: {error}")
    say(f"Figures: {pictures}")


def environment() -> dict[str, Any]:
    """What the numbers were computed with: device, versions, git revision."""
    return {
        "device": describe_devices(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    """The revision of the code, with ``+`` where files differ from it; None outside a checkout."""
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
