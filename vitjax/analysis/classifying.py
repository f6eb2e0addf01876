"""The classes that networks give to images which an analysis has made or changed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from vitjax.analysis.networks import Network
from vitjax.core.errors import ConfigError
from vitjax.core.paths import given_twice, listed
from vitjax.objectives import Classifier
from vitjax.tasks.output import OutputFolder
from vitjax.tasks.reading import stacked
from vitjax.training import evaluation_files, finite
from vitjax.training.experiment import Experiment
from vitjax.training.progress import Counter
from vitjax.training.task import Table


class Classes:
    """Predicts the classes of images, compiled once for batches of one size."""

    def __init__(self, network: Network, batch_size: int):
        """Takes a network whose run passed `check_classifier`; compiles nothing yet."""
        objective, data = network.experiment.objective, network.experiment.data
        self._name, self._model = network.name, objective.model
        self._variables = network.variables
        self._batch_size = batch_size

        def predict(variables: Any, images: Any) -> Any:
            outputs: Any = objective.model.apply(variables, data.normalize(images))
            return outputs.astype(jnp.float32)

        self._compiled = jax.jit(predict)

    def __call__(
        self, images: Iterable[np.ndarray], count: Counter | None = None
    ) -> Int[np.ndarray, "images"]:
        """The class of each image; one batch of them is in memory.

        Args:
            images: as the run's data has them before normalisation, each (height, width, channels).
            count: called with the number of images of each batch that is done.

        Raises:
            NotFiniteError: the network gives NaN, of which no class is the largest.
        """
        stream, found = iter(images), [np.zeros(0, np.int32)]
        while part := list(itertools.islice(stream, self._batch_size)):
            missing = self._batch_size - len(part)
            batch = stacked([*part, *part[-1:] * missing])
            outputs = np.asarray(self._compiled(self._variables, batch))[: len(part)]
            finite.check_outputs(outputs, self._name, self._model)
            found.append(outputs.argmax(axis=-1).astype(np.int32))
            if count is not None:
                count(len(part))
        return np.concatenate(found)


def check_classifier(experiment: Experiment, where: str, what: str) -> None:
    """Checks that a run classifies images.

    Args:
        experiment: the run's.
        where: the run's folder.
        what: what needs it, for the error.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(experiment.objective, Classifier) or experiment.data.target != "class":
        raise ConfigError(
            f"{where}: {what} is of networks that classify images, and the run's objective"
            f" {type(experiment.objective).__name__} does not"
        )


def folders_of(workdirs: Any, what: str) -> list[str | Path]:
    """The folders of runs, of which one at least is given, and each once.

    Raises:
        ConfigError: they are not.
    """
    folders = listed(workdirs, "workdirs")
    if not folders:
        raise ConfigError(f"{what} needs the folder of a run (--workdir=DIR), or several of them")
    if (twice := given_twice(folders)) is not None:
        raise ConfigError(f"--workdir={twice} is given twice; each run is a network of its own")
    return folders


def result_files(name: str, tables: Sequence[str]) -> list[str]:
    """The names of the files of `write_results`."""
    return [f"{name}.json", *(f"{name}_{key}.csv" for key in tables)]


def write_results(
    folder: OutputFolder, name: str, results: Mapping[str, Any], tables: Mapping[str, Table]
) -> None:
    """Writes results as JSON and tables as CSV, all or none.

    Args:
        folder: the folder.
        name: the beginning of the names of the files.
        results: JSON values.
        tables: by what is appended to the name of the file.
    """
    with contextlib.ExitStack() as stack:
        for file in result_files(name, list(tables)):
            stack.enter_context(folder.writing(file))
        evaluation_files.write(folder.path, name, results, tables)


def aligned_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as lines; the first column is aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def percent(value: float | None) -> str:
    """A fraction as text for a table; None and NaN, which stand for no value, are a dash."""
    return "-" if value is None or np.isnan(value) else f"{value:.1%}"
