"""The networks that an analysis is about: of runs, and of the weights that configs load."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vitjax import config as configs
from vitjax.core.errors import ConfigError
from vitjax.core.text import shortened
from vitjax.data.dataset import Dataset
from vitjax.tasks.output import OutputFolder
from vitjax.training import experiment as experiments
from vitjax.training import initialization, runs, workdir
from vitjax.training.experiment import Experiment

# Checks an experiment, given what it is called in errors.
Check = Callable[[Experiment, str], None]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to look into.

    Attributes:
        name: its name in the results.
        experiment: its model and its data.
        variables: those of its model, one copy.
        origin: the origin of the variables, as JSON values.
        cache: the folder of its cached features.
    """

    name: str
    experiment: Experiment
    variables: Any
    origin: dict[str, Any]
    cache: Path


def of_runs(
    workdirs: Iterable[str | Path],
    overrides: Sequence[str],
    check: Check,
    *,
    checkpoint: str | int | None = None,
    with_data: bool = True,
    say: Callable[[str], None] = print,
) -> list[Network]:
    """The networks of runs.

    Args:
        workdirs: folders of runs.
        overrides: ``--config.`` arguments for the config of each.
        check: called with each experiment before its weights are used.
        checkpoint: of each run, see `vitjax.training.runs.load`.
        with_data: whether the data of runs is needed, or only their description of it.
        say: receives progress messages.

    Raises:
        WorkdirError, CheckpointError: a network cannot be loaded.
    """
    found = []
    for name, folder in _named(workdirs):
        # An analysis learns the classes of the data, which may be others than the run's.
        experiment, placed, step = runs.load(
            folder,
            overrides,
            checkpoint=checkpoint,
            with_data=with_data,
            same_classes=False,
            say=say,
        )
        check(experiment, str(folder))
        variables = experiment.objective.unwrap(experiment.parallel.fetch(placed))
        origin = {"workdir": str(folder), "step": step}
        cache = Path(folder) / workdir.FEATURES
        found.append(Network(name, experiment, variables, origin, cache))
    return found


def of_configs(
    files: Iterable[str | Path],
    overrides: Sequence[str],
    check: Check,
    folder: Path,
    say: Callable[[str], None] = print,
) -> list[Network]:
    """The networks of the weights that the ``init`` sections of configs load.

    Args:
        files: config files.
        overrides: ``--config.`` arguments for each.
        check: called with each experiment before its weights are loaded.
        folder: in which features are cached.
        say: receives progress messages.

    Raises:
        ConfigError, WeightsError: a network cannot be built or loaded.
    """
    found = []
    for name, file in _named(files):
        config = configs.load(file)
        configs.override(config, overrides)
        experiment = experiments.build(config)
        check(experiment, str(file))
        variables, init = initialization.variables(experiment, say, with_head=False)
        if init is None:
            say(f"{file}: config.init.from_checkpoint is not set: these are fresh parameters")
        origin = {"config": str(file), "init": init}
        own = experiment.objective.unwrap(variables)
        found.append(Network(name, experiment, own, origin, folder / workdir.FEATURES))
    return found


def results_folder(
    workdirs: Sequence[str | Path],
    files: Sequence[str | Path],
    name: str,
    output: str | Path | None,
    *,
    overwrite: bool,
) -> OutputFolder:
    """The folder of the results: ``output``; or ``name``, for a single run in the run's folder."""
    if output is None:
        output = Path(workdirs[0]) / name if len(workdirs) == 1 and not files else name
    return OutputFolder(output, overwrite=overwrite)


def check_comparable(networks: Sequence[Network], split: str) -> None:
    """Checks that networks have the same examples of a split.

    Raises:
        ConfigError: their classes or numbers of examples differ.
    """
    first, *others = networks
    for other in others:
        one, two = first.experiment.data, other.experiment.data
        if one.class_names != two.class_names:
            what = f"{_some(one.class_names)}; {_some(two.class_names)}"
        elif one.num_examples(split) != two.num_examples(split):
            what = f"{one.num_examples(split)} and {two.num_examples(split)} examples of {split}"
        else:
            continue
        raise ConfigError(
            f"{first.name} and {other.name} have different data ({what}), so they cannot be"
            " compared; look at them separately"
        )


def spaced(number: int, most: int) -> Int[np.ndarray, "examples"]:
    """Evenly spaced examples, so that a split in the order of its classes gives some of each."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.int64))


def image_batches(
    datas: Sequence[Dataset], split: str, most: int, size: int | None = None
) -> Iterator[list[np.ndarray]]:
    """Batches of at most ``most`` images of a split, `spaced`, as each of ``datas`` prepares them.

    They are not normalised, and padding is left out. The data sets have the same examples. Batches
    have ``size`` images, or as many as those of the data.
    """
    chosen, start = spaced(datas[0].num_examples(split), most), 0
    waiting: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        iterators = [stack.enter_context(data.eval_batches(split)) for data in datas]
        for batches in zip(*iterators, strict=True):
            mask = np.logical_and.reduce([np.asarray(batch["mask"]) for batch in batches])
            size = len(mask) if size is None else size
            here = chosen[chosen >= start] - start
            here = here[here < mask.sum()]
            images = [np.asarray(batch["image"])[mask][here] for batch in batches]
            pairs = zip(waiting, images, strict=True)
            waiting = [np.concatenate(pair) for pair in pairs] if waiting else images
            # Full batches have one shape, so that what reads them is compiled once.
            while len(waiting[0]) >= size:
                yield [part[:size] for part in waiting]
                waiting = [part[size:] for part in waiting]
            start += int(mask.sum())
            if start > chosen[-1]:
                break
    if waiting and len(waiting[0]):
        yield waiting


def _named(paths: Iterable[str | Path]) -> list[tuple[str, str | Path]]:
    """Each of ``paths`` with a unique name: its last part if that is unique, else the path."""
    paths = list(paths)
    short = [Path(path).name.removesuffix(".py") for path in paths]
    counts = Counter(short)
    return [
        (name if counts[name] == 1 else str(path), path)
        for name, path in zip(short, paths, strict=True)
    ]


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} classes: {shortened(names, 3)}"
