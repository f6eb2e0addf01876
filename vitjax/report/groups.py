"""Groups of runs by what differs in their configs: their labels, and which can be compared."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.core.errors import UserError
from vitjax.core.validation import keywords_of
from vitjax.data.images import KINDS
from vitjax.report.numbers import name, setting
from vitjax.report.saved import SavedFiles
from vitjax.training import workdir

# Keys that do not make runs different: repetitions, devices, and what only reports and saves.
_REPETITION = (
    *("seed.", "imports.", "parallel.", "data.workers.", "data.eval_batch_size."),
    *("train.report.", "train.log_every", "train.profile_steps."),
    *("checkpoint.keep.", "checkpoint.every", "checkpoint.asynchronous."),
)
_MOST_LABEL = 60
_MOST_VALUE = 24  # of a label
_EPISODES = "data.episodes."


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose configs differ in nothing but the seed.

    Attributes:
        label: what distinguishes it from the other groups.
        values: its values of the keys in which groups differ, without those that it lacks.
        runs: its runs.
    """

    label: str
    values: Mapping[str, Any]
    runs: Sequence[SavedFiles]


class Kind(NamedTuple):
    """What the numbers of a group are of: those of different kinds cannot be compared.

    Attributes:
        title: the objective and the data, for people.
        data: the task and the examples that it is evaluated on.
        objective: the name of the objective.
        loss: what the loss is computed by.
    """

    title: str
    data: str
    objective: str
    loss: str

    def of(self, metric: str) -> tuple[str, ...]:
        """What must be equal for numbers of a metric to be compared."""
        return (self.data, self.objective, self.loss) if "loss" in metric else (self.data,)

    def of_chart(self, metric: str) -> tuple[str, ...]:
        """What must be equal for lines of a metric to share a chart."""
        return self.of(metric)[:2]


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
        found.setdefault(repr(_own(run, differing)), []).append(run)
    values = [_own(same[0], differing) for same in found.values()]
    groups = zip(_labels(values), values, found.values(), strict=True)
    return [Group(*each) for each in groups]


def _own(run: SavedFiles, keys: Sequence[str]) -> dict[str, Any]:
    return {key: run.config[key] for key in keys if key in run.config}


def _differ(one: Any, other: Any) -> bool:
    return repr(one) != repr(other)  # NaN is equal to itself, and 1 differs from True


def _labels(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for the values of each group: first those that tell it from the others."""
    order = sorted({key for group in groups for key in group}, key=lambda key: _rank(key, groups))
    telling = []
    told = [""] * len(groups)
    for key in order:
        finer = [f"{of}, {_value(group, key)}" for of, group in zip(told, groups, strict=True)]
        if len(set(finer)) > len(set(told)):
            telling.append(key)
            told = finer
    short = _short(order)
    order = [*telling, *(key for key in order if key not in telling)]
    labels = []
    for group in groups:
        own = [f"{short[key]}={_value(group, key)}" for key in order if key in group]
        label = own[0] if own else f"no {', '.join(short[key] for key in telling)}"
        for place, item in enumerate(own[1:], 2):
            # What does not tell groups apart is shown as far as there is room for it.
            longer = f"{label}, {item}"
            if len(longer) + 3 * (place < len(own)) > _MOST_LABEL:
                label += ", …"
                break
            label = longer
        labels.append(name(label, _MOST_LABEL) if groups[0] or len(groups) > 1 else "all runs")
    return [
        label if labels.count(label) == 1 else f"{place}: {label}"
        for place, label in enumerate(labels, 1)
    ]


def _rank(key: str, groups: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """The place of a key in labels: models, then other names, then what all groups have."""
    named = key.endswith(".name") or key in ("data.source", "data.dataset")
    lacking = sum(key not in group for group in groups)
    long = any(len(_text(group[key])) > _MOST_VALUE for group in groups if key in group)
    return key != "model.name", not named, long, lacking > 0, lacking, key


def _text(value: Any) -> str:
    return value if isinstance(value, str) else setting(value)


def _value(group: Mapping[str, Any], key: str) -> str:
    return name(_text(group[key]), _MOST_VALUE) if key in group else ""


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Keys by their last parts where these are unique, and say more than ``name``."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: end if last.count(end) == 1 and end != "name" else key
        for key, end in zip(keys, last, strict=True)
    }


def kinds(groups: Sequence[Group], tasks: Sequence[str | None]) -> list[Kind]:
    """What the numbers of each group are of.

    Args:
        groups: the groups.
        tasks: the task of each; None where it is not known, as of a model that cannot be built.
    """
    runs = [group.runs[0] for group in groups]
    objectives = [str(run.config.get("objective.name", "?")) for run in runs]
    # A task that is not known here is that of another run of the objective.
    known = {name: task for name, task in zip(objectives, tasks, strict=True) if task is not None}
    found = [_kind(run, known.get(name, name)) for run, name in zip(runs, objectives, strict=True)]
    own = {kind[:3]: kind.title for kind in found}
    titles = list(own.values())
    numbers = {each: place for place, each in enumerate(own, 1)}
    return [
        kind
        if titles.count(kind.title) == 1
        else kind._replace(title=f"{kind.title} ({numbers[kind[:3]]})")
        for kind in found
    ]


def _kind(run: SavedFiles, task: str) -> Kind:
    config = run.config
    objective = str(config.get("objective.name", "?"))
    # How images are prepared and batched is part of a method; what is read is the data.
    prepared = {key for kind in KINDS for key in keywords_of(KINDS[kind].settings_class)}
    read = {
        key: value
        for key, value in config.items()
        if key.startswith("data.") and key.split(".")[1] not in prepared
        if not key.startswith((f"{_EPISODES}train_", f"{_EPISODES}in_memory"))
    }
    # The same folder may lie elsewhere on another machine.
    read |= {key: Path(str(read[key])).name for key in ("data.path",) if read.get(key)}
    described: Mapping[str, Any] = {}
    with contextlib.suppress(UserError, OSError):
        described = workdir.read_data(run.folder) or {}
    counted = [described.get(key) for key in ("class_names", "classes", "examples")]
    # The loss of episodes is that of their queries, however a method adapts to them.
    computed = () if any(key.startswith(_EPISODES) for key in read) else ("objective.",)
    loss = {
        key: value
        for key, value in config.items()
        if key.startswith((*computed, "data.weight_map"))
    }
    source = " ".join(
        str(config[key]) for key in ("data.source", "data.dataset") if config.get(key)
    )
    return Kind(
        name(f"{objective} on {source}"),
        repr((task, sorted(read.items()), counted)),
        objective,
        repr(sorted(loss.items())),
    )
