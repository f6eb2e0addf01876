"""Whether the parts of a run go together, and whether its classes are those that it began with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from vitjax.core.errors import ConfigError
from vitjax.core.names import layers
from vitjax.core.text import near_match
from vitjax.data.sources.base import SOURCES
from vitjax.meta.episodic import Episodic
from vitjax.objectives import Classification, HeadOnly, Segmentation, objectives
from vitjax.objectives.base import FROZEN
from vitjax.objectives.images import ImageObjective

_FIRST = 5


def kind(name: str, data: Mapping[str, Any]) -> None:
    """Raises ConfigError where of objective and data one is about episodes and the other is not."""
    wanted, given = issubclass(objectives[name], Episodic), data.get("episodes") is not None
    # A section with a slip in its name is for the data to tell.
    if wanted and not given and not near_match("episodes", data):
        raise ConfigError(
            f"config.data.episodes is missing: the objective {name!r} learns from episodes."
            " episodes = dict(ways=5, shots=1) in config.data makes them of the source's images;"
            " config.objective.name = 'classification' does without"
        )
    if given and not wanted:
        episodic = [known for known in objectives if issubclass(objectives[known], Episodic)]
        raise ConfigError(
            f"config.data.episodes makes episodes, and the objective {name!r} learns from single"
            " examples. Take the section away (--config.data.episodes=None), or set"
            f" config.objective.name to a few-shot one ({', '.join(episodic)})"
        )


def labels(name: str, data: Mapping[str, Any]) -> None:
    """Raises ConfigError where of objective and data one has masks and the other does without.

    Args:
        name: of the objective; one that is neither classification nor segmentation may have either.
        data: the config's section.
    """
    source = data.get("source")
    if source is None or source not in SOURCES:  # which is for the data to tell
        return
    masks = SOURCES.facts(source).get("target") == "mask"
    if masks and issubclass(objectives[name], Classification):
        raise ConfigError(
            f"config.objective.name is {name!r}, which wants one class an image, and the source"
            f" {source!r} has masks: take 'segmentation', or a source without"
            f" ({_sources('class')})"
        )
    if not masks and issubclass(objectives[name], Segmentation):
        raise ConfigError(
            f"config.data.source is {source!r}, which has no masks, and the objective {name!r}"
            f" learns from those: take one of {_sources('mask')}"
        )


def split(name: str, splits: Iterable[str]) -> None:
    """Raises ConfigError unless the data, whose ``splits`` these are, has one of this name."""
    if name not in splits:
        raise ConfigError(
            f"--split={name}: the data has no such split{near_match(name, splits)}"
            f" (there are: {', '.join(splits)})"
        )


def frozen(task: Any, variables: Mapping[str, Any], trained: Any, *, anew: bool) -> None:
    """Checks that what is frozen is worth it, and stays as it is.

    Args:
        task: the objective.
        variables: its variables, or their shapes.
        trained: of each parameter, whether the optimizer changes it.
        anew: whether the run starts from fresh parameters.

    Raises:
        ConfigError: low-rank updates of fresh parameters; or layers whose parameters are frozen
            would normalise by the statistics of each batch, and their running statistics move on.
    """
    if not isinstance(task, ImageObjective):
        return
    if task.lora is not None and anew:
        raise ConfigError(
            "config.objective.lora trains small updates of parameters that are there, and here they"
            " would be random: config.init.from_checkpoint says what to start from"
        )
    if task.frozen_statistics is not None:
        return
    flags = flatten_dict(trained, sep="/")
    stuck = [name for name, changes in flags.items() if not changes]
    stuck += flatten_dict(variables.get(FROZEN, {}), sep="/")
    moving = [name for name, changes in flags.items() if changes]
    statistics = layers(flatten_dict(variables.get("batch_stats", {}), sep="/"))
    wrong = sorted({*statistics} & {*layers(stuck)} - {*layers(moving)})
    if wrong:
        every = len(wrong) == len(statistics)
        pattern = '"."' if every else 'patterns of them, such as "' + wrong[0] + '"'
        raise ConfigError(
            f"{len(wrong)} layers of batch normalisation are frozen ({_listed(wrong)}), and their"
            " running statistics would move on all the same: config.objective.frozen_statistics ="
            f" {pattern} keeps them, and normalises by them; () lets them move"
        )


def head_only(task: Any, data: Any, *, anew: bool) -> None:
    """Checks that a head is trained on features that are worth it, and that stay as they are.

    Args:
        task: the objective; one that is not for heads alone is not looked at.
        data: what it is trained on.
        anew: whether the run starts from fresh parameters.

    Raises:
        ConfigError: the network would be random; or features are to be computed once, and images
            change.
    """
    if not isinstance(task, HeadOnly):
        return
    if anew:
        raise ConfigError(
            "config.objective 'head_only' trains a head on what a network has learned, and here the"
            " network would be random: config.init.from_checkpoint says what to start from"
        )
    if task.cache_features and data.augments:
        raise ConfigError(
            "config.data.train_transforms: the objective 'head_only' computes the features of each"
            " image once, as it is evaluated, and training would see other images. Let it be what"
            " eval_transforms is, or set config.objective.cache_features = False to compute"
            " features in every step"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_FIRST]) + (", ..." if len(names) > _FIRST else "")


def _sources(target: str) -> str:
    """The names of the sources with this ``target``."""
    return ", ".join(
        each for each in SOURCES if SOURCES.facts(each).get("target", "class") == target
    )


def metric(name: Any, where: str, evaluated: Iterable[str], splits: Iterable[str]) -> None:
    """Checks that an evaluation on ``val`` gives metric ``name``."""
    if "val" not in splits:
        raise ConfigError(f"{where} is {name!r}, and the data has no split 'val' to evaluate on")
    known = [f"val/{each}" for each in evaluated]
    if name not in known:
        raise ConfigError(
            f"{where} is {name!r}{near_match(str(name), known)} (known: {', '.join(known)})"
        )


def unseen(noted: Mapping[str, Any], data: Any, split: str) -> None:
    """Checks that few-shot training saw none of the classes that are evaluated now.

    Args:
        noted: what the run noted of its data, see `vitjax.data.EpisodeData.describe`.
        data: what is evaluated.
        split: of it; ``train`` is asked for knowingly.

    Raises:
        ConfigError: it saw some.
    """
    trained, evaluated = _classes(noted), _classes(data.describe())
    if split == "train" or "train" not in trained or split not in evaluated:
        return
    seen = sorted(trained["train"] & evaluated[split])
    if seen:
        raise ConfigError(
            f"config.data: split {split!r} has {_some(seen)} that the run was trained on, of"
            f" {len(evaluated[split])}: its numbers would say nothing of new classes."
            " config.data.episodes.class_split should be the one of the training, or one whose"
            f" {split!r} shares no class with it"
        )


def same_classes(noted: Mapping[str, Any], data: Any) -> None:
    """Checks that a few-shot run goes on with the classes it was trained and validated on.

    Args:
        noted: as in `unseen`.
        data: what it would go on with.

    Raises:
        ConfigError: a class has come, gone or changed its split.
    """
    before, now = _classes(noted), _classes(data.describe())
    for split in ("train", "val"):
        old, new = before.get(split, set()), now.get(split, set())
        if before and now and old != new:
            changes = [
                f"{_some(sorted(names))} {what}"
                for what, names in (("new", new - old), ("gone", old - new))
                if names
            ]
            raise ConfigError(
                f"config.data: the classes of split {split!r} are not those that the run began"
                f" with: {' and '.join(changes)}. Nothing was overwritten; choose another"
                " --workdir, or the data and config.data.episodes.class_split it began with"
            )


def _classes(description: Mapping[str, Any]) -> dict[str, set[str]]:
    """The names of the classes of each split; none where the data is no few-shot classification."""
    names = description.get("class_names", [])
    return {
        split: {names[int(number)] for number in numbers}
        for split, numbers in description.get("classes", {}).items()
    }


def _some(names: Sequence[str]) -> str:
    """How many names, and the first of them."""
    first = ", ".join(map(repr, names[:_FIRST]))
    plural = "" if len(names) == 1 else "es"
    return f"{len(names)} class{plural} ({first}{', ...' if len(names) > _FIRST else ''})"
