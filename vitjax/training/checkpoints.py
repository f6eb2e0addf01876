"""Checkpoints: what a run needs to resume bit-exactly, stored by Orbax.

A checkpoint holds the `TrainState` (step, key, parameters, model state, optimizer state, moving
average), the position in the data and the other memory of the loop (``progress``), the config, and
the metrics by which the best checkpoint is chosen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vitjax.core.validation import PositiveInt
from vitjax.training import formats, saved_progress
from vitjax.training.checkpoint_files import (
    CheckpointError,
    ReadableSteps,
    RemovedError,
    check_path,
)
from vitjax.training.compatibility import conflicts
from vitjax.training.fingerprint import fingerprint

# How often to look whether the removal of a checkpoint is complete.
_REMOVAL_POLLS = 20


def _despite_removals(action: Callable[[], Any]) -> Any:
    """The result of listing checkpoints, whose folders a running training may remove meanwhile."""
    for _ in range(_REMOVAL_POLLS):
        try:
            return action()
        except (FileNotFoundError, NotADirectoryError):
            time.sleep(0.05)
    return action()


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """Drops the warning that a folder is only read, which is what was asked for."""

    def wanted(record: logging.LogRecord) -> bool:
        return "directory is read only" not in str(record.msg)

    logger = logging.getLogger("absl")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored checkpoint.

    Attributes:
        state: the train state, placed as in the abstract state.
        progress: the memory of the loop, as it was saved.
        step: the step of the checkpoint.
        config: the config of the checkpoint, as plain JSON values.
    """

    state: Any
    progress: dict[str, Any]
    step: int
    config: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; the newest and the best are kept.

    Args:
        directory: the folder of the checkpoints.
        keep: the number of newest checkpoints to keep.
        best: the metric by which the best checkpoints are kept too, such as ``"val/accuracy"``;
            None keeps only the newest.
        higher_is_better: the direction of ``best``.
        keep_best: the number of best checkpoints to keep.
        asynchronous: whether to write in the background while training continues.
        read_only: whether to open the folder without changing it.
        resuming: whether `restore` and `inspect` demand a checkpoint of the same run; by default
            unless ``read_only``.
        free_keys: config keys in which a run may differ from its checkpoint, beside those that are
            free in every run.
        explain: from the shapes of a checkpoint of another model, what differs and what can be
            done, in words; empty if it cannot say.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: PositiveInt = 2,
        best: str | None = None,
        higher_is_better: bool = True,
        keep_best: PositiveInt = 1,
        asynchronous: bool = True,
        read_only: bool = False,
        resuming: bool | None = None,
        free_keys: Collection[str] = (),
        explain: Callable[[Any], str] = lambda tree: "",
    ):
        check_path(directory)
        self.directory = directory.absolute()
        self.best = best
        self.sign = 1 if higher_is_better else -1
        self._read_only = read_only
        self._resuming = not read_only if resuming is None else resuming
        self._free_keys = free_keys
        self._explain = explain
        self._listed = ReadableSteps()
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if best is not None:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=self._score, n=keep_best, keep_checkpoints_without_metrics=False
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=self._score if best is not None else None,
            save_interval_steps=0 if read_only else 1,
            enable_async_checkpointing=asynchronous,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
            step_name_format=self._listed,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "progress": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        }

        def opened() -> Any:
            with _unreported():
                return ocp.CheckpointManager(
                    self.directory, item_handlers=handlers, options=options
                )

        self._manager = _despite_removals(opened) if read_only else opened()

    def save(
        self,
        state: Any,
        *,
        step: int,
        progress: Mapping[str, Any],
        config: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Saves a checkpoint, unless one of this step exists.

        Args:
            state: the train state.
            step: its step.
            progress: the memory of the loop, as JSON values.
            config: the config, as JSON values.
            metrics: the evaluation at this step, named as in ``best``; None or empty without one.

        Raises:
            CheckpointError: it cannot be written, for example because the disk is full.
        """
        if step in self._manager.all_steps():
            return
        scored = metrics if self.best is not None and metrics and self.best in metrics else None
        saved = {
            **progress,
            "metrics": dict(scored or {}),
            "fingerprint": fingerprint(state),
            "format": formats.FORMAT,
        }
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave({**saved, "digest": _digest(saved, config)}),
            config=ocp.args.JsonSave(dict(config)),
        )
        with self._writing():
            self._manager.save(step, args=arguments, metrics=scored, force=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the best checkpoint, or None if none was evaluated."""
        return self._manager.best_step() if self.best is not None else None

    def best_steps(self) -> list[int]:
        """The steps of all checkpoints that were evaluated, the best first."""
        if self.best is None:
            return []
        scored = {step: self._manager.metrics(step) for step in self.steps()}
        scores = {
            step: self._score(values)
            for step, values in scored.items()
            if values and self.best in formats.metrics(values)
        }
        return sorted(scores, key=lambda step: (scores[step], step), reverse=True)

    def wait(self) -> None:
        """Returns when all saved checkpoints are on disk.

        Raises:
            CheckpointError: one could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns any error in writing into a `CheckpointError`."""
        try:
            yield
        except Exception as error:
            raise CheckpointError(
                f"{self.directory}: a checkpoint cannot be written: {_first_line(error)}."
                f" Complete ones: {', '.join(f'step {step}' for step in self.steps()) or 'none'}"
            ) from error

    def close(self) -> None:
        """Waits until all is written, and ends the background threads."""
        with self._writing():
            self._manager.close()

    def restore(
        self,
        abstract_state: Any,
        *,
        config: Mapping[str, Any],
        step: int | None = None,
        say: Callable[[str], None] = print,
    ) -> Restored | None:
        """The newest complete checkpoint, or the one of ``step``.

        Args:
            abstract_state: shapes, dtypes and shardings of the state.
            config: the run's config as JSON values, compared with the checkpoint's.
            step: the step of a checkpoint to restore instead of the newest.
            say: receives a message for each damaged checkpoint that is skipped.

        Returns:
            The checkpoint, or None if there is none.

        Raises:
            CheckpointError: the checkpoint is of another model or config, ``step`` has none, or
                all checkpoints are damaged. Nothing is overwritten.
            RemovedError: a training that runs removed the checkpoint of ``step`` meanwhile.
        """
        if self._read_only and not self.steps():
            # The list may have been read while a training replaced its only checkpoint.
            _despite_removals(self._manager.reload)
        steps = self.steps()
        damaged = dict(self._listed.damaged)
        if step is not None:
            if step not in steps and step not in damaged:
                raise CheckpointError(
                    f"{self.directory}: no checkpoint of step {step}; there are:"
                    f" {', '.join(map(str, steps)) or 'none'}"
                )
            if step in damaged:
                raise self._damaged(step, damaged[step])
            steps = [step]
        # The best of the others may have been chosen.
        for unlisted, reason in sorted(damaged.items(), reverse=True):
            say(f"{self._damaged(unlisted, reason)}; it is left out.")
        for candidate in reversed(steps):
            try:
                restored = self._restore(candidate, abstract_state, config)
            except CheckpointError:
                raise
            except Exception as error:
                if self._read_only and self._vanishes(candidate):
                    _despite_removals(self._manager.reload)
                    if step is not None:
                        raise RemovedError(
                            f"{self.directory}: the checkpoint of step {step} was removed by the"
                            " running training"
                        ) from error
                    return self.restore(abstract_state, config=config, say=say)
                damaged[candidate] = _first_line(error)
                if step is not None:
                    raise self._damaged(step, damaged[step]) from error
                say(f"{self._damaged(candidate, damaged[candidate])}; trying the previous one.")
                continue
            if damaged and step is None and not self._read_only:
                self._put_aside(sorted(damaged), say)
            return restored
        if damaged:
            reasons = "; ".join(f"step {each}: {damaged[each]}" for each in sorted(damaged))
            raise CheckpointError(
                f"{self.directory}: no checkpoint there can be read ({reasons}). "
                + (
                    "Restore the files"
                    if self._read_only
                    else "Move the folder away to start from scratch, or restore the files"
                )
            )
        return None

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.directory}: the checkpoint of step {step} is damaged ({reason})"
        )

    def _vanishes(self, step: int) -> bool:
        """Whether a training that runs is removing the checkpoint of ``step``."""
        folder = self.directory / str(step)
        for _ in range(_REMOVAL_POLLS):
            if not folder.is_dir():
                return True
            time.sleep(0.1)
        return False

    def _put_aside(self, steps: list[int], say: Callable[[str], None]) -> None:
        """Moves damaged checkpoints to another folder, so that their steps can be saved again."""
        aside = self.directory.with_name(f"{self.directory.name}_damaged")
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            for step in steps:
                target = aside / str(step)
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(self.directory / str(step), target)
            say(f"The damaged checkpoints were moved to {aside}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are aside")
        self._manager.reload()

    def inspect(
        self, abstract_state: Any, *, config: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, Any]] | None:
        """The newest step whose progress can be read, and that progress; no array is read.

        Args:
            abstract_state: as of `restore`.
            config: as of `restore`.

        Returns:
            None without such a checkpoint.

        Raises:
            CheckpointError: it is of another model or config.
        """
        for step in reversed(self.steps()):
            try:
                return step, self._read(step, abstract_state, config)[0]
            except CheckpointError:
                raise
            except Exception:  # of any type; `restore` reports it
                continue
        return None

    def _read(
        self, step: int, abstract_state: Any, config: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The progress and the config of a checkpoint, after checking that it is of this run."""
        small = self._manager.restore(
            step,
            args=ocp.args.Composite(progress=ocp.args.JsonRestore(), config=ocp.args.JsonRestore()),
        )
        progress = dict(small.progress)
        digest = progress.pop("digest", None)
        # Checkpoints of older versions have neither a digest nor what the data was.
        old = digest is None and "data" not in progress
        if not old and digest != _digest(progress, small.config):
            raise ValueError("its progress or config differs from what was saved")
        saved_config = formats.upgrade(small.config, progress.pop("format", 1))
        saved_progress.check(progress)
        scored = progress.pop("metrics", None)
        if scored and json.dumps(scored) != json.dumps(dict(self._manager.metrics(step) or {})):
            raise ValueError("its metrics differ from those that were saved")
        saved = self._manager.item_metadata(step)["state"]
        problem = conflicts(
            saved.tree,
            abstract_state,
            saved_config,
            config,
            read_only=not self._resuming,
            free_keys=self._free_keys,
        )
        if problem:
            where = f"{self.directory}: the checkpoint of step {step}"
            explained = self._explain(saved.tree)
            safe = " Nothing was overwritten; choose another --workdir" if self._resuming else ""
            if explained:
                raise CheckpointError(f"{where} does not fit: {explained}.{safe}")
            way = f"{safe}, or the config" if safe else " Use the config"
            raise CheckpointError(f"{where} is of another run: {problem}.{way} it was made with")
        return progress, saved_config

    def _restore(self, step: int, abstract_state: Any, config: Mapping[str, Any]) -> Restored:
        progress, saved_config = self._read(step, abstract_state, config)
        state = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        ).state
        if fingerprint(state) != progress.pop("fingerprint"):
            raise ValueError("its arrays differ from those that were saved")
        return Restored(state, progress, step, saved_config)

    def _score(self, metrics: Mapping[str, float]) -> float:
        assert self.best is not None
        value = formats.metrics(metrics).get(self.best)
        # Comparisons with NaN are False, so it would be chosen as the best.
        if not isinstance(value, int | float) or not math.isfinite(value):
            return -math.inf
        return self.sign * value


def _digest(progress: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON values, which reading them back from a file does not change."""
    text = json.dumps([progress, config], sort_keys=True)
    # Keys that are numbers become strings, before which they were in another order.
    text = json.dumps(json.loads(text), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]
