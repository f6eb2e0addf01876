"""Checks that the parts of a run are compatible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.data import KINDS, DataError, Dataset, identity
from vitjax.data.class_order import ClassList, match
from vitjax.data.sources.base import SOURCES
from vitjax.metrics import Declaration
from vitjax.objectives import Objective, objectives
from vitjax.training.saved_progress import ClassDigests


def updates(name: str) -> None:
    """Raises ConfigError unless the objective ``name`` defines how it is updated."""
    method = objectives[name]
    if method.update is not Objective.update:
        return
    if method.parameter_groups:
        raise ConfigError(
            f"config.objective.name: {name!r} has an optimizer for each of"
            f" {', '.join(method.parameter_groups)}, but {method.__name__} does not define update,"
            " and the default update uses one optimizer for all parameters"
        )
    if method.loss is Objective.loss and method.gradients is Objective.gradients:
        raise ConfigError(
            f"config.objective.name: {name!r} cannot be trained: {method.__name__} defines none of"
            " loss, gradients and update"
        )


def fits(name: str, data: Mapping[str, Any]) -> None:
    """Checks that an objective and the ``data`` section are compatible.

    Args:
        name: the name of the objective.
        data: the config's section.

    Raises:
        ConfigError: only one of them is few-shot, or the source has labels that the objective
            cannot learn from.
    """
    objective = objectives[name]
    given = data.get("episodes") is not None
    # A section with a typo in its name is reported by the data.
    if objective.episodic and not given and not near_match("episodes", data):
        raise ConfigError(
            f"config.data.episodes is missing: the objective {name!r} learns from episodes."
            " episodes = dict(ways=5, shots=1) in config.data makes episodes of its images;"
            " config.objective.name = 'classification' needs no episodes"
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
    # An unknown target is reported by the data.
    if target in KINDS and target not in objective.targets:
        words = [KINDS.facts(each)["label"] for each in (*objective.targets, target)]
        fitting = [
            s for s in SOURCES if SOURCES.facts(s).get("target", "class") in objective.targets
        ]
        raise ConfigError(
            f"config.objective.name is {name!r}, which learns from"
            f" {' or '.join(words[:-1])}, and the source"
            f" {source!r} has {words[-1]}: use one of the sources {', '.join(fitting)}, or"
            " another objective"
        )


def trainable(data: Dataset, objective: Objective | type[Objective]) -> None:
    """Checks that there is something to learn: examples to train on, of several classes.

    An objective that names no targets, such as one that generates images, reads no classes.

    Raises:
        ConfigError: the data has no split ``train``, or one class alone.
    """
    if "train" not in data.splits:
        raise ConfigError(
            f"the data has no split 'train' to learn from (there are: {', '.join(data.splits)})"
        )
    learns_classes = data.target == "class" and "class" in (objective.targets or ())
    if learns_classes and not data.episodic and data.num_classes < 2:
        raise ConfigError(
            f"the data has one class, {data.class_names[0]!r}, and nothing to tell it from; two or"
            " more are needed. A folder of images has one folder per class: config.data.path is the"
            " folder that holds those"
        )


def has_step(train: Mapping[str, Any], data: Dataset) -> None:
    """Checks that the batches of a run are not larger than all that it sees.

    Args:
        train: the config's section; its values are those that a run can have.
        data: the data.

    Raises:
        ConfigError: a number of epochs is less than one step.
    """
    epochs, per_epoch = train.get("epochs"), data.steps_per_epoch
    if epochs and per_epoch and per_epoch < 1 and round(epochs * per_epoch) < 1:
        examples = round(per_epoch * data.batch_size)
        raise ConfigError(
            f"config.data.batch_size is {data.batch_size}, and there are {examples:,} examples to"
            f" train on: with config.train.epochs = {epochs}, they fill less than one batch"
        )


def provides(part: Any, interface: type[Any], what: str) -> Any:
    """``part``, which must have an interface.

    Args:
        part: the data or the objective of a run.
        interface: an abstract class.
        what: what needs it, for errors.

    Raises:
        ConfigError: ``part`` is no subclass of ``interface``.
    """
    if not isinstance(part, interface):
        raise ConfigError(
            f"{what} needs the interface {interface.__module__}.{interface.__qualname__}, and"
            f" {type(part).__name__} does not derive from it"
        )
    return part


def same_classes(described: Mapping[str, Any], data: Dataset) -> None:
    """Checks that a run resumes with the classes that it started with, in their order.

    Args:
        described: what `vitjax.data.Dataset.describe` returned when the run started.
        data: the data to resume with.

    Raises:
        ConfigError: a class is new or gone, or has another number.
    """
    known = ClassList.described(described)
    if known is None or data.episodic or data.target == "none":
        return
    found = match(known, data.class_list, complete=True)
    if not found.same:
        raise ConfigError(
            "config.data: the data has the classes of the run in another order; vitjax.train and"
            " vitjax.training.runs.to_resume match them by name"
        )


def same_data(
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    *,
    accept: bool = False,
    untouched: bool = True,
) -> str:
    """Checks that a run resumes with the examples that it was trained on.

    Args:
        before: what `vitjax.data.Dataset.identity` returned when the run was saved; None for a run
            of an older version, which did not save it.
        now: the same of the data to resume with.
        accept: whether other examples are accepted.
        untouched: whether nothing was changed yet.

    Returns:
        What differs, in words; empty if nothing does.

    Raises:
        DataError: something differs, and is not accepted.
    """
    changed = "" if before is None else identity.differences(before, now)
    if changed and not accept:
        raise DataError(
            f"config.data: this is not the data that the run was trained on: {changed}."
            f"{' Nothing was overwritten.' if untouched else ''} Resume with the original data,"
            " choose another --workdir, or add"
            " --accept-data-change (accept_data_change=True) to resume with what is there now"
        )
    return changed


def same_numbers(
    saved: ClassDigests | None,
    found: ClassDigests | None,
    path: str,
    *,
    stored: bool = False,
) -> None:
    """Checks that classes have the numbers in which a checkpoint learned them.

    Args:
        saved: `saved_progress.class_digests` when it was saved; None of an older version.
        found: the same of the classes that its outputs would be taken for.
        path: the file that names them.
        stored: whether their values or colours in masks must be the same too.

    Raises:
        DataError: they are others, or in another order.
    """
    if saved is None:
        return
    same = found is not None and saved["names"] == found["names"]
    if same and (not stored or (found and saved["stored"] == found["stored"])):
        return
    raise DataError(
        f"{path}: the classes have other {'values in masks' if same else 'names'} than those that"
        " the checkpoint learned, or another order: the file was changed, or is of another run;"
        " restore it from a copy"
    )


def split(name: str, splits: Iterable[str]) -> None:
    """Raises ConfigError unless ``name`` is one of the data's ``splits``."""
    if name not in splits:
        raise ConfigError(
            f"split={name}: the data has no such split{near_match(name, splits)}"
            f" (there are: {', '.join(splits)})"
        )


def outputs(num_classes: int | None, needed: int | None, fewest: int | None, target: str) -> None:
    """Checks the number of the model's outputs.

    Args:
        num_classes: the model's ``num_classes``; None for a model without a head.
        needed: the number that the objective needs for the data, or None.
        fewest: the smallest number that the objective allows, or None.
        target: the target of the data.

    Raises:
        ConfigError: the model has too few outputs, or another number than a regression needs.
    """
    if (num_classes or 0) < (fewest or 0):
        raise ConfigError(
            f"config.model.num_classes is {num_classes}; the data has {needed} classes"
        )
    # A wider output would be compared with the target by broadcasting.
    if target == "number" and needed is not None and num_classes != needed:
        raise ConfigError(
            f"config.model.num_classes is {num_classes}; in this regression it must be {needed},"
            " the width of a target"
        )


def metric(
    name: Any,
    where: str,
    declared: Mapping[str, Declaration],
    final: Mapping[str, Declaration],
    splits: Iterable[str],
) -> None:
    """Checks that an evaluation on ``val`` has the metric ``name``, and that it has a direction.

    Args:
        name: the metric with its split, such as ``"val/accuracy"``, or ``"val/iou_per_class/1"``
            for an entry of an array.
        where: its key in the config, for errors.
        declared: the declarations of the metrics of an evaluation.
        final: the declarations of the metrics that only the end of a run computes.
        splits: the splits of the data.

    Raises:
        ConfigError: the split, the metric or its direction is missing; the metric is an array, or
            is not computed during training.
    """
    if "val" not in splits:
        raise ConfigError(
            f"{where} is {name!r}, but the data has no split 'val' (there are:"
            f" {', '.join(splits)}). --config.data.val_fraction=0.1 holds out a tenth of the"
            " training examples, for sources with that key;"
            f" --{where.removesuffix('.metric')}=None does without"
        )
    arrays = {f"val/{each}": d.shape for each, d in declared.items() if d.shape}
    known = {f"val/{each}": d for each, d in declared.items() if not d.shape}
    ranges = []
    for each, shape in arrays.items():
        if len(shape) == 1:
            known |= {f"{each}/{i}": declared[each.removeprefix("val/")] for i in range(*shape)}
            ranges.append(f"{each}/0 to {each}/{shape[0] - 1}")
    if name in arrays:
        entry = f"; name one entry, such as '{name}/0'" if f"{name}/0" in known else ""
        raise ConfigError(f"{where} is {name!r}, which is an array of shape {arrays[name]}{entry}")
    if name in {f"val/{each}" for each in final}:
        raise ConfigError(
            f"{where} is {name!r}, which is computed at the end of a run alone, so it cannot choose"
            " among checkpoints"
        )
    if name not in known:
        listed = [*(each for each in known if each.count("/") == 1), *ranges]
        raise ConfigError(
            f"{where} is {name!r}{near_match(str(name), known)} (known: {', '.join(listed)})"
        )
    if known[name].higher_is_better is None:
        raise ConfigError(
            f"{where} is {name!r}, which declares no direction; its objective must create it with"
            " higher_is_better=True or False"
        )
