"""The config's ``optimizer`` and ``schedule`` sections, for one optimizer or one per group."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitjax.config.lengths import Run
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.optim import optimizers, schedules
from vitjax.optim.optimizer import Optimizer, Optimizers

_OPTIMIZER, _SCHEDULE = "config.optimizer", "config.schedule"


def check_optimizers(
    groups: Sequence[str], optimizer: Mapping[str, Any], schedule: Mapping[str, Any]
) -> None:
    """Checks both sections as far as possible without the parameters.

    Args:
        groups: the objective's groups of parameters; empty for one optimizer.
        optimizer: keys of one optimizer, or one section per group.
        schedule: keys of one schedule for all, or one section per group.

    Raises:
        ConfigError: an unknown name, key or group, or a missing group.
    """
    for where, section in _optimizers(groups, optimizer):
        optimizers.check(section, where)
    for where, section in _schedules(groups, schedule):
        schedules.check(section, where)


def create_optimizers(
    groups: Sequence[str],
    params: Any,
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any],
    run: Run,
    accumulation_steps: int,
    layer_groups: Callable[..., list[int]],
) -> tuple[Optimizers, Any]:
    """The optimizers of both sections.

    Args:
        groups: as in `check_optimizers`.
        params: the parameters, or their shapes.
        optimizer: as in `check_optimizers`.
        schedule: as in `check_optimizers`.
        run: turns lengths into steps.
        accumulation_steps: micro-batches per step.
        layer_groups: see `vitjax.objectives.Objective.layer_groups`.

    Returns:
        The optimizer, or one per group; and for each parameter whether it is trained, as a tree
        like ``params``.

    Raises:
        ConfigError: as in `check_optimizers`, or a pattern matches no parameter.
    """
    made = {}
    pairs = zip(_optimizers(groups, optimizer), _schedules(groups, schedule), strict=True)
    for group, ((where, section), (where_schedule, plan)) in zip(
        groups or (None,), pairs, strict=True
    ):
        own = params if group is None else params[group]
        rate = schedules.create(plan, run, section["learning_rate"], where_schedule)
        made[group] = Optimizer(
            optimizers.create(
                own, rate, section, where, functools.partial(layer_groups, group=group)
            ),
            rate,
            optimizers.trained(own, section, where),
            accumulation_steps,
        )
    if not groups:
        only = made[None]
        return only, only.trained
    trained = {group: each.trained for group, each in made.items()}
    return {str(group): each for group, each in made.items()}, trained


def _optimizers(
    groups: Sequence[str], section: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any]]]:
    """For each optimizer the place of its keys in the config, and the keys."""
    if not groups:
        return [(_OPTIMIZER, section)]
    for key in section:
        if key not in groups:
            raise ConfigError(
                f"{_OPTIMIZER}: unknown group {key!r}{near_match(key, groups)} (this objective has"
                f" an optimizer for each of {', '.join(groups)})"
            )
    for group in groups:
        if not isinstance(section.get(group), Mapping):
            raise ConfigError(
                f"{_OPTIMIZER}.{group} is {section.get(group)!r}; it must be a section with the"
                " name of an optimizer and its keys"
            )
    return [(f"{_OPTIMIZER}.{group}", section[group]) for group in groups]


def _schedules(
    groups: Sequence[str], section: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any]]]:
    """For each optimizer the place of its schedule in the config, and the schedule's keys."""
    if not groups:
        return [(_SCHEDULE, section)]
    if not any(isinstance(value, Mapping) for value in section.values()):
        return [(_SCHEDULE, section)] * len(groups)
    for key in section:
        if key not in groups:
            raise ConfigError(
                f"{_SCHEDULE}: unknown group {key!r}{near_match(key, groups)} (groups:"
                f" {', '.join(groups)})"
            )
    return [(f"{_SCHEDULE}.{group}", section.get(group) or {}) for group in groups]
