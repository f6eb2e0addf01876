"""The end of a run: final numbers, versions and pictures."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax import figures
from vitjax.core.atomic import write_json
from vitjax.meta import evaluation
from vitjax.parallel.devices import describe_devices
from vitjax.tasks import few_shot_figures as few_shot
from vitjax.tasks import segmentation_files as segmentation
from vitjax.training import workdir
from vitjax.training.evaluation import Evaluator
from vitjax.training.logging import read

_PACKAGES = ("vitjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_MISTAKES = 25


def write(
    evaluator: Evaluator,
    variables: Any,
    folder: Path,
    facts: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluates on all held-out splits and writes ``summary.json`` and the figures.

    Args:
        evaluator: of the run's experiment.
        variables: what the run stands for, placed on the devices.
        folder: the run's folder.
        facts: numbers of the training to keep beside those of the evaluation.
        say: is told the result and where the pictures are.

    Returns:
        What ``summary.json`` holds.
    """
    experiment = evaluator.experiment
    results = {
        split: evaluator.results(variables, split)
        for split in ("test", "val")
        if split in experiment.data.splits
    }
    summary = {**results, **facts, "seed": experiment.seed, **environment()}
    if experiment.data.skipped:
        summary["skipped"] = sorted(experiment.data.skipped)
        say(f"{len(experiment.data.skipped)} unreadable images were skipped; summary.json has them")
    pictures = folder / workdir.FIGURES
    split = next(iter(results), None)
    per_class = getattr(experiment.objective, "per_class", ())
    records = read(folder / workdir.METRICS) if jax.process_index() == 0 else []
    if hasattr(experiment.objective, "per_pixel"):
        if split is not None:
            shown = "val" if "val" in results else split
            segmentation.draw(evaluator, variables, shown, pictures)
        if jax.process_index() == 0:
            figures.class_curves(records, experiment.class_names, pictures / "iou.png")
    elif split is not None and hasattr(experiment.objective, "predict"):
        predicted = evaluator.predictions(variables, split)
        if jax.process_index() == 0:
            draw_predictions(experiment, predicted, split, pictures)
    if split is not None and hasattr(experiment.objective, "measure"):
        few_shot.draw(evaluator, variables, split, results[split], pictures)
    if jax.process_index() == 0:
        plain = [{k: v for k, v in record.items() if k not in per_class} for record in records]
        figures.curves(plain, pictures / "curves.png")
        write_json(folder / workdir.SUMMARY, summary)
    for split, values in results.items():
        for line in describe(values):
            say(f"{split}: {line}")
    say(f"Pictures: {pictures}")
    return summary


def draw_predictions(
    experiment: Any, predicted: Mapping[str, np.ndarray], split: str, pictures: Path
) -> None:
    """Draws the confusion matrix of ``split`` and its most confident mistakes."""
    names = experiment.class_names
    labels, guesses = predicted["label"], predicted["prediction"]
    figures.confusion_matrix(labels, guesses, names, pictures / "confusion_matrix.png")
    wrong = np.flatnonzero(labels != guesses)
    worst = wrong[np.argsort(-predicted["confidence"][wrong], kind="stable")][:_MISTAKES]
    images = [experiment.data.example(split, int(predicted["index"][i])) for i in worst]
    figures.mistakes(
        images,
        labels[worst],
        guesses[worst],
        predicted["confidence"][worst],
        names,
        pictures / "mistakes.png",
    )


def describe(values: Mapping[str, Any]) -> list[str]:
    """Results in words, a few lines: ``["accuracy 98.33%, loss 0.0712 on 180 examples"]``.

    What is there for every class, as ``iou_0``, ``iou_1``, ..., has a line of its own.
    """
    if "examples" not in values:
        return evaluation.describe(values)
    words, by_class = [], dict[str, list[tuple[int, float]]]()
    for name, value in sorted(values.items()):
        start, _, end = name.rpartition("_")
        if end.isdigit():
            by_class.setdefault(start, []).append((int(end), value))
        elif name != "examples":
            accuracy = name.startswith("accuracy")
            words.append(f"{name} {value:.2%}" if accuracy else f"{name} {value:.4f}")
    return [
        f"{', '.join(words)} on {values['examples']} examples",
        *(
            f"{name} of each class: {' '.join(f'{value:.4f}' for _, value in sorted(each))}"
            for name, each in by_class.items()
        ),
    ]


def report(split: str, values: Mapping[str, Any]) -> list[str]:
    """All that an evaluation has to say of ``split``, in lines."""
    lines = [f"{split}: {line}" for line in describe(values)]
    if "examples" in values:
        return lines
    steps = evaluation.table(values) if values["test_steps"] else []
    return [*lines, *steps, *(f"({line})" for line in evaluation.MEANING)]


def environment() -> dict[str, Any]:
    """What the numbers were made with: device, versions, git revision."""
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
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+" if changed else "")
