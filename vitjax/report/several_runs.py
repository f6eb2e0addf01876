"""The page about several runs: the results and curves of their groups, with intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from vitjax import figures
from vitjax.core.errors import UserError
from vitjax.core.text import Say, shortened
from vitjax.data.class_order import ClassList
from vitjax.metrics import Declaration, t_interval
from vitjax.report.about import MOST_CHARTS, nothing_reported
from vitjax.report.blocks import charts, templates, words
from vitjax.report.groups import Group, Kind, grouped, kinds
from vitjax.report.numbers import number, seconds, setting, spread
from vitjax.report.one_run import damage_of, scores_of
from vitjax.report.page import Card, Note, Page
from vitjax.report.saved import SPLITS, SavedFiles
from vitjax.training import experiment as experiments
from vitjax.training import runs, workdir
from vitjax.training.experiment import Experiment
from vitjax.training.page import Chart, Charts, Line, Score, Words


def page(folders: Sequence[str | Path], say: Say = print) -> Page:
    """The page about the runs in several folders, from their files alone.

    Args:
        folders: at least two.
        say: receives what cannot be shown.

    Raises:
        WorkdirError: a folder holds no run, or a file is damaged.
    """
    files = [SavedFiles.read(folder) for folder in folders]
    for warning in (warning for run in files for warning in run.damage):
        say(warning)
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
    tasks = [None if each is None else each.objective.task for each in experiments]
    of_groups = kinds(groups, tasks)
    made.add("Results", _results(groups, scores, of_groups))
    declared: dict[str, Declaration] | None = None
    for experiment in experiments:
        if experiment is not None:
            declared = {**(declared or {}), **experiment.declarations}
    panels = _panels(groups, declared)
    made.notes = [*_different(of_groups), *_repeated_seeds(groups)]
    made.notes += [note for run in files for note in damage_of(run)]
    made.notes += _not_finite(groups, scores, panels)
    made.add("Curves", _curves(groups, panels, of_groups))
    made.add("Differences", _differences(groups))
    made.add("Runs", _runs(groups, scores))
    return made


def _different(of_groups: Sequence[Kind]) -> Iterator[Note]:
    """A remark on groups that are of different data."""
    if len({kind.data for kind in of_groups}) > 1:
        titles = shortened(list(dict.fromkeys(kind.title for kind in of_groups)))
        yield Note(
            f"The runs differ in their data or their task ({titles}). Numbers of different data"
            " cannot be compared: no best is marked among them, and their curves are apart."
        )


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


def _not_finite(
    groups: Sequence[Group],
    scores: Sequence[Sequence[Mapping[str, Score]]],
    metrics: Iterable[str],
) -> Iterator[Note]:
    """A remark on runs with values that no mean can have."""
    found = []
    for group, results in zip(groups, scores, strict=True):
        for run, own in zip(group.runs, results, strict=True):
            lost = [key for key, score in own.items() if not math.isfinite(score.value)]
            lost += [
                f"{split} {metric}"
                for (metric, split), (_, values) in run.series.items()
                if metric in metrics and not np.isfinite(values).all()
            ]
            if lost:
                found.append(f"{run.name} ({shortened(list(dict.fromkeys(lost)))})")
    if found:
        yield Note(
            "Values that are NaN or infinite are left out of means and intervals:"
            f" {shortened(found)}."
        )


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
    groups: Sequence[Group],
    scores: Sequence[Sequence[Mapping[str, Score]]],
    of_groups: Sequence[Kind],
) -> Iterator[Markup]:
    """The mean of each score over the runs of a group; the best of comparable ones is marked."""
    columns = _columns(scores)
    if not columns:
        yield words(Words("No run has ended, so there are no final results."))
        return
    means = [
        {key: _finite_mean([run[key].value for run in group if key in run]) for key in columns}
        for group in scores
    ]
    best = {
        key: _best([row[key][0] for row in means], about, [kind.of(key) for kind in of_groups])
        for key, about in columns.items()
    }
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
            " distribution where a group has at least two runs that ended. The best mean of a"
            " column is green where all of its means are of the same data and task, and those of a"
            " loss of the same objective and settings. Overlapping intervals do not tell groups"
            " apart."
        )
    )


def _finite_mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the finite ones of a few values, and half of its interval."""
    return t_interval([value for value in values if math.isfinite(value)])


def _best(
    values: Sequence[float], about: Score, comparable: Sequence[tuple[str, ...]]
) -> int | None:
    """The place of the best value; None where there is no direction or nothing to compare."""
    known = [place for place, value in enumerate(values) if math.isfinite(value)]
    if about.higher_is_better is None or len(known) < 2:
        return None
    if len({comparable[place] for place in known}) > 1:
        return None
    return (max if about.higher_is_better else min)(known, key=values.__getitem__)


def _panels(
    groups: Sequence[Group], declared: Mapping[str, Declaration] | None
) -> Mapping[str, figures.Declared]:
    """The metrics that curves are drawn of."""
    series = {
        key: value for group in groups for run in group.runs for key, value in run.series.items()
    }
    return figures.panels(series, declared, MOST_CHARTS)


def _curves(
    groups: Sequence[Group], panels: Mapping[str, figures.Declared], of_groups: Sequence[Kind]
) -> Iterator[Markup]:
    """Each metric of each split, with a line and a band for each group."""
    drawn = []
    for metric, about in panels.items():
        rate = metric == "learning_rate"
        for split in ("train",) if rate else ("val", "train"):
            found: dict[tuple[str, ...], list[Line]] = {}
            titles = {}
            for place, (group, kind) in enumerate(zip(groups, of_groups, strict=True)):
                if lines := _lines(group, place, (metric, split)):
                    key = () if rate else kind.of_chart(metric)
                    found.setdefault(key, []).extend(lines)
                    titles[key] = f": {kind.title}"
            for key, lines in found.items():
                title = f"{split} {metric.replace('_', ' ')}{titles[key] if len(found) > 1 else ''}"
                fraction = about.unit == "fraction"
                drawn.append(Chart(title, lines, fraction=fraction, from_zero=rate))
    if not drawn:
        ended = any(run.summary for group in groups for run in group.runs)
        yield words(Words(nothing_reported(ended)))
        return
    yield charts(Charts(drawn))
    yield words(Words("Lines are means over the runs of a group, bands their 95% intervals."))
    losses = {kind.of("loss") for kind in of_groups}
    if len(losses) > len({kind.of_chart("loss") for kind in of_groups}):
        yield words(
            Words(
                "Groups with different settings of one objective share the charts of losses;"
                " some settings, such as weights of its terms, change what a loss measures."
            )
        )


def _lines(group: Group, place: int, key: tuple[str, str]) -> list[Line]:
    """The mean of a group over the steps that its runs have in common; without any, each run."""
    found = [run.series[key] for run in group.runs if key in run.series]
    if not found:
        return []
    common = functools.reduce(np.intersect1d, [steps for steps, _ in found])
    if not len(common):
        return [Line(group.label, steps, values, group=place) for steps, values in found]
    values = np.stack([of[np.searchsorted(steps, common)] for steps, of in found])
    each = [_finite_mean(column.tolist()) for column in values.T]
    half = None if len(found) < 2 else [width for _, width in each]
    return [Line(group.label, common, [mean for mean, _ in each], half, group=place)]


def _differences(groups: Sequence[Group]) -> Iterator[Markup]:
    """The keys in which groups differ: a row per key, a column per group."""
    keys = sorted({key for group in groups for key in group.values})
    if not keys:
        yield words(Words("The configs differ in nothing but the seed."))
        return
    rows = [
        (
            key,
            [setting(group.values[key]) if key in group.values else None for group in groups],
        )
        for key in keys
    ]
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
