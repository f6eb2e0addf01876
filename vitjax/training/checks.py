"""Whether the parts of a run go together, before its data is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.data.sources.base import SOURCES
from vitjax.metrics import Declaration
from vitjax.objectives import objectives

# In words, the label that an example of each kind of data has.
_LABELS = {
    "class": "one class per image",
    "mask": "a mask with a class per pixel",
    "number": "numbers",
}


def fits(name: str, data: Mapping[str, Any]) -> None:
    """Checks that an objective and a data section go together.

    Args:
        name: of the objective.
        data: the config's section.

    Raises:
        ConfigError: one is about few-shot episodes and the other is not; or the source has other
            labels than the objective learns from.
    """
    objective = objectives[name]
    given = data.get("episodes") is not None
    # A section with a typo in its name is reported by the data.
    if objective.episodic and not given and not near_match("episodes", data):
        raise ConfigError(
            f"config.data.episodes is missing: the objective {name!r} learns from episodes."
            " episodes = dict(ways=5, shots=1) in config.data makes them of the source's images;"
            " config.objective.name = 'classification' needs none"
        )
    if given and not objective.episodic:
        episodic = [known for known in objectives if objectives[known].episodic]
        raise ConfigError(
            f"config.data.episodes makes episodes, and the objective {name!r} learns from single"
            " examples. Remove the section (--config.data.episodes=None), or set"
            f" config.objective.name to a few-shot one ({', '.join(episodic)})"
        )
    source = data.get("source")
    if objective.targets is None or source is None or source not in SOURCES:
        return  # an unknown source is reported by the data
    target = SOURCES.facts(source).get("target", "class")
    if target not in objective.targets:
        fitting = [
            s for s in SOURCES if SOURCES.facts(s).get("target", "class") in objective.targets
        ]
        raise ConfigError(
            f"config.objective.name is {name!r}, which learns from"
            f" {' or '.join(_LABELS[each] for each in objective.targets)}, and the source"
            f" {source!r} has {_LABELS[target]}: take one of the sources {', '.join(fitting)}, or"
            " another objective"
        )


def split(name: str, splits: Iterable[str]) -> None:
    """Raises ConfigError unless the data, whose ``splits`` these are, has one of this name."""
    if name not in splits:
        raise ConfigError(
            f"--split={name}: the data has no such split{near_match(name, splits)}"
            f" (there are: {', '.join(splits)})"
        )


def metric(
    name: Any, where: str, declared: Mapping[str, Declaration], splits: Iterable[str]
) -> None:
    """Checks that an evaluation on ``val`` gives metric ``name``, and that it has a direction.

    Raises:
        ConfigError: it does not.
    """
    if "val" not in splits:
        raise ConfigError(f"{where} is {name!r}, and the data has no split 'val' to evaluate on")
    known = {f"val/{each}": declaration for each, declaration in declared.items()}
    known = {n: d for n, d in known.items() if not n.endswith("_per_class")}
    if name not in known:
        raise ConfigError(
            f"{where} is {name!r}{near_match(str(name), known)} (known: {', '.join(known)})"
        )
    if known[name].higher_is_better is None:
        raise ConfigError(
            f"{where} is {name!r}, which declares no direction: its objective should create it with"
            " higher_is_better=True or False"
        )
