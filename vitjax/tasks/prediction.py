"""Predictions of a run's model for any number of files, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.file_lists import find_images
from vitjax.core.text import Say, counted, near_match
from vitjax.core.validation import check_keywords, keywords_of
from vitjax.data import DataError
from vitjax.tasks.output import CSV, JSON_LINES, OutputFolder
from vitjax.training import runs
from vitjax.training.task import Task

_LISTED = 20
_GIVEN = ("variables", "files", "output")  # by what calls the task's `predict`


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A model that is ready to predict files.

    Attributes:
        task: the task of the run.
        files: the files.
        results: yields the result for each file, in order, and writes it; see `Task.predict`. It
            can be iterated over once.
    """

    task: Task[Any, Any]
    files: Sequence[str]
    results: Iterator[dict[str, Any]]


def start(
    workdir: str | Path,
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    overwrite: bool = False,
    say: Say = print,
    **options: Any,
) -> Predictions:
    """Checks files and options, loads a run's model, and starts to predict.

    Paths are checked before anything is loaded, and options and the heads of files before the
    model. Arguments and errors are those of `vitjax.predict`.
    """
    folder = None if output is None else OutputFolder(output, overwrite=overwrite)
    found = find_images(files, say=say, apart_from=() if folder is None else folder.written)
    if folder is not None:
        folder.check((JSON_LINES, CSV))
    options = {name: value for name, value in options.items() if value is not None}
    # Its devices may not be available here, and one forward pass needs none of them.
    overrides = ("--config.parallel=None", *overrides)
    run = runs.SavedRun(workdir, overrides, with_data=False, say=say)
    with contextlib.closing(run):
        experiment = run.experiment
        task = experiment.task
        _check_known(task, experiment.objective.task, options)
        check_keywords(
            task.predict,
            options,
            where=f"{workdir}, task {experiment.objective.task}: predict",
            given=_GIVEN,
        )
        task.say = say
        task.check_prediction(found, options)
        placed, _ = run.chosen(checkpoint, say)
    variables = experiment.parallel.fetch(placed)
    results = _results(task, variables, found, folder, say, options)
    return Predictions(task, found, results)


def _check_known(task: Task[Any, Any], name: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError for an option that the task's predictions do not have."""
    known = [each for each in keywords_of(task.predict) if each not in _GIVEN]
    unknown = [each for each in options if each not in known]
    if not unknown:
        return
    if "support" in unknown:
        raise task.no_adaptation()
    option = _option(unknown[0])
    near = near_match(option, map(_option, known))
    raise ConfigError(
        f"the run's task {name!r} predicts without {option} ({unknown[0]}=){near}; its options are"
        f" {', '.join(map(_option, known)) or 'none'}"
    )


def _option(keyword: str) -> str:
    """A keyword as an option of the command line."""
    return f"--{keyword.replace('_', '-')}"


def _results(
    task: Task[Any, Any],
    variables: Any,
    files: Sequence[str],
    folder: OutputFolder | None,
    say: Say,
    options: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yields each result after writing it; at the end reports the speed and what was skipped."""
    skips = options.get("on_corrupt") == "skip"
    began, count = time.perf_counter(), 0
    unread: list[Mapping[str, Any]] = []
    with contextlib.ExitStack() as stack:
        write = None
        if folder is not None:
            write = stack.enter_context(folder.results(task.row, errors=skips))
        predicted: Iterable[dict[str, Any]] = task.predict(variables, files, folder, **options)
        for result in predicted:
            if "error" in result:
                unread.append(result)
            count += 1
            if len(unread) == count == len(files):
                raise DataError(f"no image can be read; the first: {unread[0]['error']}")
            if write is not None:
                write(result)
            yield result
    seconds = time.perf_counter() - began
    predicted_count = count - len(unread)
    say(
        f"{counted(predicted_count, 'image')} in {seconds:.1f} s:"
        f" {predicted_count / max(seconds, 1e-9):,.1f} images per second, with compilation"
    )
    if unread:
        say(f"Skipped {len(unread):,} of {count:,} images, which cannot be read:")
        for failed in unread[:_LISTED]:
            say(f"  {failed['error']}")
        if len(unread) > _LISTED:
            say(f"  and {len(unread) - _LISTED:,} more")
