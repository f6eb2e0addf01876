"""Sections that the files of a run are enough for: curves, time, what was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vitjax import figures
from vitjax.analysis.summary import Summary
from vitjax.metrics import Declaration
from vitjax.report.blocks import charts, grid, templates, words
from vitjax.report.numbers import count, name, number, seconds, setting
from vitjax.report.saved import SavedFiles
from vitjax.training.page import Chart, Charts, Grid, Line, Score, Words

MOST_CHARTS = 9
_LAYERS = 300
_SPLIT_COLORS = {"train": 0, "val": 1}
_ABSENT = object()  # which equals no value


def curves(files: SavedFiles, declarations: Mapping[str, Declaration] | None) -> Iterator[Markup]:
    """The loss, the metrics and the learning rate over the steps."""
    panels = figures.panels(files.series, declarations, MOST_CHARTS)
    drawn = []
    for metric, declared in panels.items():
        lines = [
            Line(split, steps, values, group=_SPLIT_COLORS.get(split, 2))
            for (of, split), (steps, values) in files.series.items()
            if of == metric
        ]
        unit = f" ({declared.unit})" if declared.unit not in ("", "fraction") else ""
        title = metric.replace("_", " ") + unit
        drawn.append(
            Chart(
                title,
                lines,
                fraction=declared.unit == "fraction",
                from_zero=metric == "learning_rate",
            )
        )
    if not drawn:
        yield words(Words(nothing_reported(bool(files.summary))))
        return
    yield charts(Charts(drawn))


def nothing_reported(ended: bool) -> str:
    """What stands in place of curves."""
    return "metrics.jsonl has no record of it." if ended else "Nothing has been reported yet."


def results(scores: Mapping[str, Sequence[Score]]) -> Iterator[Markup]:
    """The final results of each split with their intervals."""
    rows, fractions = [], set()
    for split, found in scores.items():
        for score in found:
            fraction = score.fraction
            fractions.add(fraction)
            interval = ""
            if score.low is not None and score.high is not None:
                interval = f"{number(score.low, fraction)} to {number(score.high, fraction)}"
            rows.append(
                (split, score.name, number(score.value, fraction), interval, score.interval)
            )
    if not rows:
        yield words(Words("There are no final results yet."))
        return
    yield grid(Grid(("split", "metric", "value", "95% interval", "by"), rows))


def time(files: SavedFiles) -> Iterator[Markup]:
    """What the time of training went to, and the speed over the steps."""
    summary = files.summary
    split = summary.get("seconds_of")
    if isinstance(split, Mapping) and all(isinstance(v, int | float) for v in split.values()):
        data = float(split.get("data", 0.0))
        shares = {
            "steps": max(0.0, float(split.get("steps", 0.0)) - data),
            "waiting for data": data,
            "evaluation": float(split.get("evaluation", 0.0)),
            "checkpoints": float(split.get("checkpoints", 0.0)),
        }
        total = sum(shares.values()) or 1.0
        yield Markup(
            templates.get_template("time.html.j2").render(
                shares=[(what, value, value / total) for what, value in shares.items()], total=total
            )
        )
        yield words(
            Words(
                "Steps have the compilation of the first one. Evaluation is that during training,"
                " not the final one. Devices compute while the loop waits for data."
            )
        )
    elif (trained := files.number("seconds")) is not None:
        yield words(Words(f"{seconds(trained)} of training."))
    else:
        yield words(Words("The time is recorded at the end of a run."))
    known = [
        (each, files.series[each, "train"])
        for each in ("examples_per_second", "mfu")
        if (each, "train") in files.series
    ]
    if known:
        yield charts(
            Charts(
                [
                    Chart(
                        metric.replace("_", " "),
                        [Line("train", *values)],
                        fraction=metric == "mfu",
                        from_zero=True,
                    )
                    for metric, values in known
                ]
            )
        )


def layers(found: Summary) -> Iterator[Markup]:
    """A model layer by layer."""
    yield words(
        Words(
            f"{found.parameters:,} parameters, {count(found.flops)}FLOPs of a forward pass for one"
            f" example (a multiply-add counts as two), {found.activations:,} activations."
        )
    )
    rows = [
        (
            layer.name,
            " × ".join(map(str, layer.shape)),
            layer.parameters,
            layer.flops,
            ""
            if layer.size is None
            else " × ".join("all" if s is None else str(s) for s in layer.size),
        )
        for layer in found.layers[:_LAYERS]
    ]
    yield grid(Grid(("layer", "output", "parameters", "FLOPs", "receptive field"), rows))
    if len(found.layers) > _LAYERS:
        yield words(Words(f"The first {_LAYERS} of {len(found.layers)} layers."))


def run(files: SavedFiles) -> Iterator[Markup]:
    """The command, the config and what differs from its file, the machine and the versions."""
    written = files.written
    rows = []
    for key in sorted({*files.config, *(written or {})}):
        own, before = files.config.get(key, _ABSENT), (written or {}).get(key, _ABSENT)
        # Paths of imports become absolute when a run starts.
        known = written is not None and key != "imports"
        changed = known and _differs(own, before)
        if own is _ABSENT and not changed:
            continue
        rows.append(
            {
                "key": name(key),
                "value": None if own is _ABSENT else setting(own),
                "before": None if before is _ABSENT else setting(before),
                "changed": changed,
            }
        )
    summary = files.summary
    facts: dict[str, Any] = {
        "folder": str(files.folder.absolute()),
        "command": files.command or "not known",
        "seed": summary.get("seed", files.config.get("seed")),
        "device": summary.get("device"),
        "git commit": summary.get("git_revision"),
        "parameters": summary.get("parameters"),
        "FLOPs per example and step": _large(files.number("flops_per_example")),
        "steps": summary.get("steps"),
        "step of the results": summary.get("checkpoint_step"),
        "started from": summary.get("init"),
        "changes of the data": summary.get("data_changes"),
        "unreadable images": _length(summary.get("skipped")),
    }
    versions = summary.get("versions")
    yield Markup(
        templates.get_template("run.html.j2").render(
            facts=[(key, _fact(value)) for key, value in facts.items() if value is not None],
            versions=sorted(versions.items()) if isinstance(versions, Mapping) else [],
            rows=rows,
            known=written is not None,
            file=files.started.get("config_file"),
        )
    )


def _differs(own: Any, before: Any) -> bool:
    # As text: NaN is equal to itself, and 1 differs from True. None removes a key, and a section
    # is a key of its own where it is empty.
    nothing = all(value is _ABSENT or value is None or value == {} for value in (own, before))
    return not nothing and repr(own) != repr(before)


def _large(value: float | None) -> str | None:
    return None if value is None else count(value)


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) and value else None


def _fact(value: Any) -> str:
    if isinstance(value, str):
        return name(value, 600)
    return number(value) if isinstance(value, int | float) else setting(value)
