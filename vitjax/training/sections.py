"""The sections of a config: what is checked before data is read, and the optimizers of both."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import vitjax.data
from vitjax import parallel
from vitjax.config import lengths
from vitjax.config.lengths import Run
from vitjax.config.values import flatten
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.registry import named
from vitjax.core.text import near_match
from vitjax.core.validation import Bounds, call, check_keywords, keywords_of
from vitjax.models.registry import MODELS
from vitjax.objectives import Objective, objectives
from vitjax.optim import optimizers, schedules
from vitjax.optim.optimizer import Optimizer, Optimizers
from vitjax.parallel.base import Parallel
from vitjax.training import checks
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.settings import Start, check_train
from vitjax.training.task import TASKS

_OPTIMIZER, _SCHEDULE = "config.optimizer", "config.schedule"


# What an objective receives in addition to its section, if it has the field.
OFFERED = frozenset(
    [
        "model",
        "num_classes",
        "num_train_classes",
        "class_names",
        "class_counts",
        "normalize",
        "target",
        "devices",
    ]
)
_OF_TRAINING = ("optimizer.", "schedule.")
# What `vitjax.training.experiment.Experiment.checkpoints` gives.
_OF_CHECKPOINTS = ("directory", "read_only", "free_keys", "higher_is_better", "explain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sections:
    """A config.

    Attributes:
        model: ``name``, and fields of the model.
        data: ``source``, its keywords, and the keys of the kind of data, see `vitjax.data.create`.
        optimizer: see `vitjax.optim.optimizers`; with groups of parameters, one section for each.
        train: see `vitjax.training.settings.Settings`; with ``steps`` or ``epochs``.
        objective: ``name``, and fields of the objective; None for a classification.
        schedule: see `vitjax.optim.schedules`.
        checkpoint: see `vitjax.training.checkpoints.Checkpoints`.
        init: see `vitjax.training.settings.Start`.
        parallel: see `vitjax.parallel.create`.
        imports: files of the user; `vitjax.config.user_code` has imported them.
        seed: of all randomness.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    train: Mapping[str, Any]
    objective: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    init: Mapping[str, Any] | None = None
    parallel: Mapping[str, Any] | None = None
    imports: Sequence[str] = ()
    seed: Annotated[int, Bounds(at_least=0, below=2**32)] = 0


class Checked(NamedTuple):
    """A config whose names and values are checked as far as that is possible without data.

    Attributes:
        sections: the config.
        model_name: the name of the model.
        model_arguments: the other keys of its section.
        constructor: of the model.
        method: the class of the objective.
        method_arguments: its section without the name.
        offered: what the objective receives beside its section.
        start: the weights that a new run starts from.
        devices: how the run uses its devices.
    """

    sections: Sections
    model_name: str
    model_arguments: dict[str, Any]
    constructor: Any
    method: type[Objective]
    method_arguments: dict[str, Any]
    offered: frozenset[str]
    start: Start | None
    devices: Parallel


def checked(config: Mapping[str, Any]) -> Checked:
    """Checks everything in a config that can be checked before data is read.

    Args:
        config: plain JSON values.

    Raises:
        ConfigError: an unknown section, name or key, or a value that no data makes right.
    """
    given: Sections = call(Sections, expanded(config), where="config")
    model_name, model_arguments = named(given.model, "config.model")
    method_name, method_arguments = named(
        {"name": "classification", **(given.objective or {})}, "config.objective"
    )
    method = objectives.lookup(method_name, "config.objective.name")
    constructor = MODELS.lookup(model_name, "config.model.name")
    offered = OFFERED & set(keywords_of(method))
    check_keywords(constructor, model_arguments, where="config.model", name=model_name)
    check_keywords(
        method,
        method_arguments,
        where="config.objective",
        given=offered | {"axis_name"},
        name=method_name,
    )
    method.check_section(method_arguments)
    checks.updates(method_name)
    check_optimizers(method.parameter_groups, given.optimizer, given.schedule or {})
    check_train(given.train)
    checkpoint, where = given.checkpoint or {}, "config.checkpoint"
    lengths.check(checkpoint, ["every"], where=where)
    units = lengths.spellings(["every"])
    check_keywords(Checkpoints, checkpoint, where=where, given=_OF_CHECKPOINTS, also=units)
    start = call(Start, given.init, where="config.init") if given.init else None
    checks.fits(method_name, given.data)
    TASKS[method.task].check(config)
    vitjax.data.check(**given.data)
    devices = parallel.create(**(given.parallel or {}))
    return Checked(
        given,
        model_name,
        model_arguments,
        constructor,
        method,
        method_arguments,
        offered,
        start,
        devices,
    )


def of_training(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config that need no bounds where a run has used them.

    These are what only the updates of training read, and the number of its processes; they are
    returned by their names in errors.

    Args:
        config: plain JSON values.
    """
    return {
        f"config.{key}": value
        for key, value in flatten(config).items()
        if key.startswith(_OF_TRAINING) or key == "data.workers"
    }


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
