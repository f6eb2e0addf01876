"""The page about several runs: groups by what differs in their configs, with intervals."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vitjax import figures
from vitjax.core.errors import UserError
from vitjax.core.text import Say, shortened
from vitjax.data.class_order import ClassList
from vitjax.metrics import Declaration, t_interval
from vitjax.report.about import MOST_CHARTS
from vitjax.report.blocks import charts, templates, words
from vitjax.report.numbers import name, number, seconds, setting, spread
from vitjax.report.one_run import scores_of
from vitjax.report.page import Card, Note, Page
from vitjax.report.saved import SPLITS, SavedFiles
from vitjax.training import experiment as experiments
from vitjax.training import runs, workdir
from vitjax.training.experiment import Experiment
from vitjax.training.page import Chart, Charts, Line, Score, Words

# Keys that do not make runs different: repetitions, devices, and what only reports and saves.
_REPETITION = (
    *("seed.", "imports.", "parallel.", "data.workers.", "data.eval_batch_size."),
    *("train.report.", "train.log_every", "train.profile_steps."),
    *("checkpoint.keep.", "checkpoint.every", "checkpoint.asynchronous."),
)
_MOST_LABEL = 60


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose configs differ in nothing but the seed.

    Attributes:
        label: what distinguishes it from the other groups.
        values: the values of the keys in which groups differ.
        runs: its runs.
    """

    label: str
    values: Mapping[str, Any]
    runs: Sequence[SavedFiles]


def page(folders: Sequence[str | Path], say: Say = print) -> Page:
    """The page about the runs in several folders, from their files alone.

    Args:
        folders: at least two.
        say: receives what cannot be shown.

    Raises:
        WorkdirError: a folder holds no run, or a file is damaged.
    """
    files = [SavedFiles.read(folder) for folder in folders]
    groups = grouped(files)
    experiments = [_experiment(group.runs[0], say) for group in groups]
    scores = [
        [_scores(run, experiment) for run in group.runs]
        for group, experiment in zip(groups, experiments, strict=True)
    ]
    made = Page("comparison", f"{len(files)} runs in {len(groups)} groups")
    if len(groups) == 1:
        made.title = f"{len(files)} runs that differ in their seed"
    made.subtitle = ", ".join(run.name for run in files)
    made.cards = [
        Card("runs", str(len(files))),
        Card("groups", str(len(groups))),
        Card("ended", str(sum(bool(run.summary) for run in files))),
    ]
    made.notes = list(_repeated_seeds(groups))
    made.add("Results", _results(groups, scores))
    declared: dict[str, Declaration] | None = None
    for experiment in experiments:
        if experiment is not None:
            declared = {**(declared or {}), **experiment.declarations}
    made.add("Curves", _curves(groups, declared))
    made.add("Differences", _differences(groups))
    made.add("Runs", _runs(groups, scores))
    return made


def grouped(files: Sequence[SavedFiles]) -> list[Group]:
    """Runs by the values of the keys in which any two of them differ, in the order of the first."""
    keys = sorted({key for run in files for key in run.config})
    absent = object()
    differing = [
        key
        for key in keys
        if not f"{key}.".startswith(_REPETITION)
        and any(
            _differ(run.config.get(key, absent), files[0].config.get(key, absent)) for run in files
        )
    ]
    found: dict[str, list[SavedFiles]] = {}
    for run in files:
        own = {key: run.config[key] for key in differing if key in run.config}
        found.setdefault(repr(own), []).append(run)
    short = _short(differing)
    groups = []
    for same in found.values():
        values = {key: same[0].config.get(key, "not set") for key in differing}
        text = ", ".join(
            f"{short[key]}={value if isinstance(value, str) else setting(value)}"
            for key, value in values.items()
        )
        groups.append(Group(name(text, _MOST_LABEL) or "all runs", values, same))
    return _distinct(groups)


def _differ(one: Any, other: Any) -> bool:
    return repr(one) != repr(other)  # NaN is equal to itself, and 1 differs from True


def _repeated_seeds(groups: Sequence[Group]) -> Iterator[Note]:
    """A remark on each group in which runs have the same seed."""
    for group in groups:
        seeds = [run.config.get("seed") for run in group.runs]
        twice = [
            run.name for run, seed in zip(group.runs, seeds, strict=True) if seeds.count(seed) > 1
        ]
        if twice:
            yield Note(
                f"{shortened(twice)} have the same configs and seeds as others of their group:"
                " such runs are not independent, and the intervals of the group are too narrow."
            )


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Keys by their last parts where these are unique."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _distinct(groups: list[Group]) -> list[Group]:
    """Groups with different labels: those that were cut to the same one have a number."""
    labels = [group.label for group in groups]
    return [
        group
        if labels.count(group.label) == 1
        else dataclasses.replace(group, label=f"{place}: {group.label}")
        for place, group in enumerate(groups, 1)
    ]


def _experiment(run: SavedFiles, say: Say) -> Experiment | None:
    """The experiment of a run without its data, which declares its metrics; None without one."""
    try:
        config = runs.read_config(run.folder, say)
        config.parallel = None  # its devices may not be available here
        described = workdir.read_data(run.folder)
        classes = ClassList.described(described)
        return experiments.build(config, described, classes=classes, trained=True)
    except (UserError, OSError) as error:
        say(f"warning: {run.folder}: its metrics have no units here: {error}")
        return None


def _scores(run: SavedFiles, experiment: Experiment | None) -> dict[str, Score]:
    """The final scores of a run by split and name."""
    return {
        f"{split} {score.name}": score
        for split, found in run.results.items()
        for score in scores_of(experiment, found)
    }


def _columns(scores: Sequence[Sequence[Mapping[str, Score]]]) -> dict[str, Score]:
    """The scores that any run has, by name, with one of them for its unit."""
    found: dict[str, Score] = {}
    for split in SPLITS:
        for run in (run for group in scores for run in group):
            for key, score in run.items():
                if key.startswith(f"{split} "):
                    found.setdefault(key, score)
    return found


def _results(
    groups: Sequence[Group], scores: Sequence[Sequence[Mapping[str, Score]]]
) -> Iterator[Markup]:
    """The mean of each score over the runs of a group; the best is marked."""
    columns = _columns(scores)
    if not columns:
        yield words(Words("No run has ended, so there are no final results."))
        return
    means = [
        {key: t_interval([run[key].value for run in group if key in run]) for key in columns}
        for group in scores
    ]
    best = {key: _best([row[key][0] for row in means], about) for key, about in columns.items()}
    rows = [
        {
            "group": group.label,
            "color": place % 8,
            "runs": len(group.runs),
            "cells": [
                {
                    "text": spread(*row[key], about.fraction)
                    if row[key][0] == row[key][0]
                    else "–",
                    "sort": repr(row[key][0]),
                    "best": best[key] == place,
                }
                for key, about in columns.items()
            ],
        }
        for place, (group, row) in enumerate(zip(groups, means, strict=True))
    ]
    yield Markup(templates.get_template("several.html.j2").render(columns=list(columns), rows=rows))
    yield words(
        Words(
            "Mean over the runs of a group, with half of the 95% interval of Student's t"
            " distribution where a group has at least two runs that ended. The best mean of each"
            " column is green; overlapping intervals do not tell groups apart."
        )
    )


def _best(values: Sequence[float], about: Score) -> int | None:
    """The place of the best value; None where there is no direction or nothing to compare."""
    known = [value for value in values if math.isfinite(value)]
    if about.higher_is_better is None or len(known) < 2:
        return None
    return values.index(max(known) if about.higher_is_better else min(known))


def _curves(
    groups: Sequence[Group], declared: Mapping[str, Declaration] | None
) -> Iterator[Markup]:
    """Each metric of each split, with a line and a band for each group."""
    series = {
        key: value for group in groups for run in group.runs for key, value in run.series.items()
    }
    drawn = []
    for metric, about in figures.panels(series, declared, MOST_CHARTS).items():
        for split in ("val", "train"):
            lines = [
                line
                for place, group in enumerate(groups)
                for line in _lines(group, place, (metric, split))
            ]
            if lines and not (metric == "learning_rate" and split == "val"):
                title = f"{split} {metric.replace('_', ' ')}"
                rate = metric == "learning_rate"
                fraction = about.unit == "fraction"
                drawn.append(Chart(title, lines, fraction=fraction, from_zero=rate))
    if not drawn:
        yield words(Words("Nothing has been reported yet."))
        return
    yield charts(Charts(drawn))
    yield words(Words("Lines are means over the runs of a group, bands their 95% intervals."))


def _lines(group: Group, place: int, key: tuple[str, str]) -> list[Line]:
    """The mean of a group over the steps that its runs have in common; without any, each run."""
    found = [run.series[key] for run in group.runs if key in run.series]
    if not found:
        return []
    common = functools.reduce(np.intersect1d, [steps for steps, _ in found])
    if not len(common):
        return [Line(group.label, steps, values, group=place) for steps, values in found]
    values = np.stack([of[np.searchsorted(steps, common)] for steps, of in found])
    each = [t_interval(column.tolist()) for column in values.T]
    half = None if len(found) < 2 else [width for _, width in each]
    return [Line(group.label, common, [mean for mean, _ in each], half, group=place)]


def _differences(groups: Sequence[Group]) -> Iterator[Markup]:
    """The keys in which groups differ: a row per key, a column per group."""
    keys = list(groups[0].values)
    if not keys:
        yield words(Words("The configs differ in nothing but the seed."))
        return
    rows = [(key, [setting(group.values[key]) for group in groups]) for key in keys]
    yield Markup(
        templates.get_template("differences.html.j2").render(
            groups=[(group.label, place % 8) for place, group in enumerate(groups)], rows=rows
        )
    )


def _runs(
    groups: Sequence[Group], scores: Sequence[Sequence[Mapping[str, Score]]]
) -> Iterator[Markup]:
    """Each run with its results."""
    columns = _columns(scores)
    rows = []
    for place, (group, found) in enumerate(zip(groups, scores, strict=True)):
        for run, own in zip(group.runs, found, strict=True):
            time = run.number("seconds")
            values = [own[key].value if key in own else math.nan for key in columns]
            cells = [
                {"text": number(value, about.fraction), "sort": repr(value), "best": False}
                for value, about in zip(values, columns.values(), strict=True)
            ]
            rows.append(
                {
                    "group": str(run.folder),
                    "color": place % 8,
                    "runs": run.config.get("seed", "–"),
                    "cells": [
                        *cells,
                        {
                            "text": "–" if time is None else seconds(time),
                            "sort": "nan" if time is None else repr(float(time)),
                            "best": False,
                        },
                    ],
                }
            )
    yield Markup(
        templates.get_template("several.html.j2").render(
            columns=[*columns, "training"], rows=rows, first="run", second="seed"
        )
    )
