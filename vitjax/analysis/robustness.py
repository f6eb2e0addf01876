"""Robustness: the accuracy of networks on corrupted, shuffled and occluded images."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax import figures
from vitjax.analysis.changing import (
    FRACTIONS,
    OCCLUDED,
    SHUFFLED,
    Change,
    Counts,
    all_changes,
    batches,
    labelled,
)
from vitjax.analysis.classifying import (
    aligned_table,
    check_classifier,
    folders_of,
    percent,
    result_files,
    write_results,
)
from vitjax.analysis.networks import Network, check_comparable, of_runs, spaced
from vitjax.core.errors import ConfigError
from vitjax.core.text import Say
from vitjax.core.validation import NonNegativeInt, PositiveInt, check_value
from vitjax.data import DataError, LabelledDataset
from vitjax.data.corruptions import CORRUPTIONS, SEVERITIES
from vitjax.data.corruptions.patches import occlusion_grid
from vitjax.metrics import wilson
from vitjax.tasks.output import OutputFolder
from vitjax.training import checks
from vitjax.training.experiment import Experiment
from vitjax.training.progress import Progress
from vitjax.training.summary import environment
from vitjax.training.task import Table

NAME = "robustness"
CORRUPTED, PATCHES, EXAMPLES = "corruptions.png", "patches.png", "examples.png"
ALL = "all"
_TABLES = ("corruptions", "patches")


def robustness(
    workdirs: Sequence[str | Path],
    output: str | Path,
    overrides: Sequence[str] = (),
    *,
    corruptions: str | Sequence[str] = ALL,
    severities: int | Sequence[int] = SEVERITIES,
    split: str = "test",
    examples: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Measures the accuracy of networks on the 15 common corruptions, and on patches.

    Hendrycks & Dietterich 2019, arXiv:1903.12261; Naseer et al. 2021, arXiv:2105.10497. Images are
    changed after the evaluation transforms of a run and before normalisation. Networks whose data
    gives the same images see the same changed images.

    Writes ``robustness.json``, ``robustness_corruptions.csv``, ``robustness_patches.csv``,
    `CORRUPTED`, `PATCHES` and `EXAMPLES`.

    Args:
        workdirs: folders of runs with the same data. The first is the reference of mean corruption
            errors, as AlexNet is in the paper.
        output: the folder to write to.
        overrides: ``--config.`` arguments for the config of each run.
        corruptions: `ALL`, or names of `vitjax.data.corruptions.CORRUPTIONS`, separated by commas
            or in a list.
        severities: the one, or those, to measure.
        split: whose images are used.
        examples: the number of images at most, evenly spaced in the split.
        batch_size: images that pass through a network at once.
        seed: of noise, weather and the order of patches.
        checkpoint: of each run, see `vitjax.training.runs.load`.
        overwrite: whether files in ``output`` that no earlier command wrote may be replaced.
        say: receives progress messages.

    Returns:
        The contents of the JSON file.

    Raises:
        ConfigError: no run, an unknown corruption, severity or split, a run that does not classify
            images, runs with different data, or a file in ``output`` that would be lost.
        DataError: an image cannot be read or corrupted.
        NotFiniteError: a network gives NaN.
        WorkdirError, CheckpointError: a run cannot be loaded.
    """
    folders = folders_of(workdirs, "robustness")
    names = _names(corruptions)
    severities = _severities(severities)
    check_value(examples, PositiveInt, "--examples")
    check_value(batch_size, PositiveInt, "--batch-size")
    check_value(seed, NonNegativeInt, "--seed")
    folder = OutputFolder(output, overwrite=overwrite)
    folder.check([*result_files(NAME, _TABLES), CORRUPTED, PATCHES, EXAMPLES])
    check = functools.partial(_check, split=split)
    networks = of_runs(folders, overrides, check, checkpoint=checkpoint, say=say)
    check_comparable(networks, split)
    shape = min((labelled(each).image_shape for each in networks), key=lambda x: min(x[:2]))
    size = (shape[0], shape[1])
    changes = all_changes(names, severities, size)
    indices = spaced(labelled(networks[0]).num_examples(split), examples)
    batch_size = min(batch_size, len(indices))
    counts = Counts(networks, changes, batch_size, seed)
    total, unit = len(indices) * (1 + len(changes)), ("image", "changed images")
    with Progress(say).counting(total, NAME, unit) as count:
        for images, labels, which in batches(networks, split, indices, batch_size):
            counts.add(images, labels, which, count)
    if not counts.examples:
        raise DataError(f"robustness: none of the images of {split} can be read")
    results = {
        "split": split,
        "examples": counts.examples,
        "seed": seed,
        "severities": list(severities),
        "reference": networks[0].name,
        "occlusion_grid": occlusion_grid(size),
        "networks": _summaries(networks, counts, names, severities),
        **environment(),
    }
    tables = {"corruptions": _corruption_table(results), "patches": _patch_table(results)}
    write_results(folder, NAME, results, tables)
    say("\n".join(_lines(results)))
    say(f"Results: {folder.path / NAME}.json")
    _draw(results, folder, 1 / len(labelled(networks[0]).class_names), say)
    first = labelled(networks[0]).example(split, int(indices[0]))
    _draw_examples(first, changes, seed, int(indices[0]), folder, say)
    return results


def _names(corruptions: str | Sequence[str]) -> tuple[str, ...]:
    given = corruptions.split(",") if isinstance(corruptions, str) else _list(corruptions)
    check_value(given, list[str], "--corruptions")
    names = tuple(dict.fromkeys(name.strip() for name in given))
    if names == (ALL,):
        return CORRUPTIONS.names()
    for name in names:
        CORRUPTIONS.lookup(name, "--corruptions")
    if not names:
        raise ConfigError(f"--corruptions: give at least one, or {ALL!r}")
    return names


def _severities(given: int | Sequence[int]) -> tuple[int, ...]:
    several = _list(given)
    check_value(several, list[int], "--severities")
    if not several:
        raise ConfigError("--severities: give at least one, from 1 to 5")
    for severity in several:
        if severity not in SEVERITIES:
            raise ConfigError(f"--severities has {severity}; severities are from 1 to 5")
    return tuple(sorted(map(int, set(several))))


def _list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def _check(experiment: Experiment, where: str, split: str) -> None:
    check_classifier(experiment, where, "robustness")
    data = checks.provides(experiment.data, LabelledDataset, "robustness")
    checks.split(split, data.splits)
    if data.image_shape[-1] not in (1, 3):
        raise ConfigError(
            f"{where}: corruptions are of grey and of RGB images, and the run's have"
            f" {data.image_shape[-1]} channels"
        )


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], reference: Mapping[str, Sequence[float]]
) -> float:
    """The mean over corruptions of errors relative to those of a reference network.

    Hendrycks & Dietterich 2019, Sec. 4.2: the mean over c of sum_s E(s, c) / sum_s E_ref(s, c),
    where s are severities. For the relative error, subtract the errors on clean images from both.

    Args:
        errors: the errors at each severity by corruption, in 0..1.
        reference: the same of the reference. Corruptions of which these do not sum to more than 0
            cannot be compared and are left out.

    Returns:
        1 for the reference itself; NaN if no corruption can be compared.
    """
    sums = [(sum(errors[name]), sum(reference[name])) for name in errors]
    ratios = [above / below for above, below in sums if below > 1e-9]
    return float(np.mean(ratios)) if ratios else math.nan


def _summaries(
    networks: Sequence[Network], counts: Counts, names: Sequence[str], severities: Sequence[int]
) -> list[dict[str, Any]]:
    grids = [level for name, level in counts.changed if name == SHUFFLED]

    def accuracies(number: int, name: str, levels: Sequence[float]) -> list[float]:
        return [float(counts.changed[name, x][number]) / counts.examples for x in levels]

    def errors(number: int, clean: float = 0.0) -> dict[str, list[float]]:
        return {
            name: [1 - accuracy - clean for accuracy in accuracies(number, name, severities)]
            for name in names
        }

    found = []
    for number, network in enumerate(networks):
        right = int(counts.clean[number])
        low, high = wilson(right, counts.examples)
        clean, first_clean = (1 - float(counts.clean[n]) / counts.examples for n in (number, 0))
        means = {name: float(np.mean(values)) for name, values in errors(number).items()}
        mean = float(np.mean(list(means.values())))
        found.append(
            {
                "name": network.name,
                **network.origin,
                "accuracy": {"value": right / counts.examples, "low": low, "high": high},
                "mean_error": mean,
                "relative_mean_error": mean - clean,
                "mce": mean_corruption_error(errors(number), errors(0)),
                "relative_mce": mean_corruption_error(
                    errors(number, clean), errors(0, first_clean)
                ),
                "corruptions": {
                    name: {
                        "kind": CORRUPTIONS.facts(name).get("kind"),
                        "accuracy": accuracies(number, name, severities),
                        "mean_error": means[name],
                        "relative_mean_error": means[name] - clean,
                    }
                    for name in names
                },
                SHUFFLED: {
                    "grids": [int(grid) for grid in grids],
                    "accuracy": accuracies(number, SHUFFLED, grids),
                },
                OCCLUDED: {
                    "fractions": list(FRACTIONS),
                    "accuracy": accuracies(number, OCCLUDED, FRACTIONS),
                },
            }
        )
    return found


def _corruption_table(results: Mapping[str, Any]) -> Table:
    severities = [f"accuracy_{severity}" for severity in results["severities"]]
    rows = [
        (
            *(each["name"], name, part["kind"], *part["accuracy"]),
            *(part["mean_error"], part["relative_mean_error"]),
        )
        for each in results["networks"]
        for name, part in each["corruptions"].items()
    ]
    columns = ("network", "corruption", "kind", *severities, "mean_error", "relative_mean_error")
    return Table(columns, rows)


def _patch_table(results: Mapping[str, Any]) -> Table:
    rows = [
        (each["name"], name, level, accuracy)
        for each in results["networks"]
        for name, levels in ((SHUFFLED, "grids"), (OCCLUDED, "fractions"))
        for level, accuracy in zip(each[name][levels], each[name]["accuracy"], strict=True)
    ]
    return Table(("network", "change", "level", "accuracy"), rows)


def _lines(results: Mapping[str, Any]) -> list[str]:
    """Mean errors over severities: a row per corruption, a column per network."""
    networks = results["networks"]
    rows = [["mean error", *(each["name"] for each in networks)]]
    rows += [
        [name, *(percent(each["corruptions"][name]["mean_error"]) for each in networks)]
        for name in networks[0]["corruptions"]
    ]
    for key, words in (
        ("mean_error", "all corruptions"),
        ("relative_mean_error", "all, minus the clean error"),
        ("mce", f"mCE (100% is {results['reference']})"),
        ("relative_mce", "relative mCE"),
    ):
        rows.append([words, *(percent(each[key]) for each in networks)])
    clean = [percent(1 - each["accuracy"]["value"]) for each in networks]
    rows.append(["clean images", *clean])
    return aligned_table(rows)


def _draw(results: Mapping[str, Any], folder: OutputFolder, chance: float, say: Say) -> None:
    networks = results["networks"]

    def curves(of: Callable[[Mapping[str, Any]], list[float]]) -> dict[str, list[float]]:
        return {each["name"]: of(each) for each in networks}

    def corrupted(each: Mapping[str, Any], name: str) -> list[float]:
        return [each["accuracy"]["value"], *each["corruptions"][name]["accuracy"]]

    panels = [
        figures.Levels(
            name,
            "severity; 0 is clean",
            [0, *results["severities"]],
            curves(functools.partial(corrupted, name=name)),
        )
        for name in networks[0]["corruptions"]
    ]
    heading = f"{results['examples']:,} images of {results['split']}"
    with figures.optional(str(folder.path / CORRUPTED), say), folder.writing(CORRUPTED) as path:
        figures.corruptions(panels, path, chance=chance, heading=heading)
        say(f"Figure: {path}")
    grid = results["occlusion_grid"]
    patches = [
        figures.Levels(
            "shuffled patches",
            "patches along each side",
            networks[0][SHUFFLED]["grids"],
            curves(lambda each: each[SHUFFLED]["accuracy"]),
            logarithmic=True,
        ),
        figures.Levels(
            "hidden patches",
            f"fraction of {grid} x {grid} patches that are black",
            FRACTIONS,
            curves(lambda each: each[OCCLUDED]["accuracy"]),
        ),
    ]
    with figures.optional(str(folder.path / PATCHES), say), folder.writing(PATCHES) as path:
        figures.levels(patches, path, chance=chance, heading=heading)
        say(f"Figure: {path}")


def _draw_examples(
    image: np.ndarray,
    changes: Sequence[Change],
    seed: int,
    index: int,
    folder: OutputFolder,
    say: Say,
) -> None:
    """One image after all changes."""
    words = {SHUFFLED: "{0:.0f} x {0:.0f}", OCCLUDED: "{0:.0%} hidden"}
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for change in changes:
        cells = rows.setdefault(change.name, [])
        if change.name in CORRUPTIONS and not cells:
            cells.append(("clean", image))
        caption = words.get(change.name, "severity {0:.0f}").format(change.level)
        cells.append((caption, change(image, seed, index)))
    if OCCLUDED in rows:
        rows[OCCLUDED] = rows[OCCLUDED][::2]
    with figures.optional(str(folder.path / EXAMPLES), say), folder.writing(EXAMPLES) as path:
        figures.examples_of_levels(rows, path, heading=f"image {index} of the split, changed")
        say(f"Figure: {path}")
