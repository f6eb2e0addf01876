"""Checkpoints: what a run needs to go on to the bit, kept by Orbax.

A checkpoint holds the `TrainState` (step, key, parameters, model state, optimizer state, moving
average), the loader's place and what else the loop remembers (``progress``), the config, and the
evaluation's numbers by which the best is chosen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vitjax.config.lengths import spellings
from vitjax.config.values import flatten
from vitjax.core.errors import ConfigError, UserError

# Config keys that may differ between a checkpoint and the run that goes on from it: where things
# are, how often something is reported, on what and how long it runs. A new length moves a schedule
# that depends on it, and pmap draws other dropout masks than jit; so differences are told.
_FREE_SECTIONS = ("checkpoint.", "parallel.", "train.early_stopping.")
_FREE_KEYS = frozenset(
    {
        *("imports", "train.steps", "train.epochs", "train.profile_steps", "train.early_stopping"),
        *(f"train.{key}" for key in spellings(("log_every", "evaluate_every"))),
        *("data.path", "data.data_dir", "data.workers", "data.eval_batch_size", "data.on_corrupt"),
        *(f"data.episodes.{key}" for key in ("val_episodes", "test_episodes")),
        *("data.episodes.in_memory", "objective.test_steps"),
        "imports",  # what changed in those files is reported by `vitjax.config.user_code`
    }
)
# Beside those, where a checkpoint is only looked at: its arrays have to fit, and the questions that
# are put to it are free, and so is which of a model's heads answers.
_FREE_TO_READ = ("data.", "objective.", "model.prune")


class CheckpointError(UserError):
    """No usable checkpoint, or one of another model or config."""


def begun(directory: Path) -> bool:
    """Whether ``directory`` is there and has a checkpoint, whole or not."""
    return directory.is_dir() and any(entry.name.isdigit() for entry in directory.iterdir())


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint gave back.

    Attributes:
        state: the train state, placed as the abstract state asked for.
        progress: the loop's memory, as it was saved.
        step: the step of the checkpoint.
        config: the config that it was saved with, as plain JSON values.
    """

    state: Any
    progress: dict[str, Any]
    step: int
    config: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, newest and best kept.

    Args:
        directory: where they are.
        keep: how many of the newest are kept, at least one.
        best: the metric by which the best one is kept too, such as ``"val/accuracy"``; None keeps
            only the newest.
        higher_is_better: the direction of ``best``.
        keep_best: how many of the best are kept, at least one.
        asynchronous: write in the background while training goes on.
        read_only: only `restore` and the questions will be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 2,
        best: str | None = None,
        higher_is_better: bool = True,
        keep_best: int = 1,
        asynchronous: bool = True,
        read_only: bool = False,
    ):
        if keep < 1:
            raise ConfigError(f"config.checkpoint.keep is {keep}; a run needs at least one")
        if keep_best < 1:
            raise ConfigError(f"config.checkpoint.keep_best is {keep_best}; it is at least one")
        self.directory = directory.absolute()
        self.best = best
        self.sign = 1 if higher_is_better else -1
        self._read_only = read_only
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if best is not None:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=self._score, n=keep_best, keep_checkpoints_without_metrics=False
                )
            )
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "progress": ocp.JsonCheckpointHandler(),
                "config": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                best_fn=self._score if best is not None else None,
                enable_async_checkpointing=asynchronous,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
            ),
        )

    def save(
        self,
        state: Any,
        *,
        step: int,
        progress: Mapping[str, Any],
        config: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Saves one checkpoint, unless there is one of this step already.

        Args:
            state: the train state, one copy.
            step: its step.
            progress: JSON values.
            config: the config as JSON values.
            metrics: the evaluation at this step, named as in ``best``; empty where there was none.

        Raises:
            CheckpointError: it cannot be written: the disk is full, say.
        """
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave({**progress, "fingerprint": fingerprint(state)}),
            config=ocp.args.JsonSave(dict(config)),
        )
        scored = metrics if self.best is not None and metrics and self.best in metrics else None
        with self._writing():
            self._manager.save(step, args=arguments, metrics=scored, force=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the best checkpoint, or None where none has been scored."""
        return self._manager.best_step() if self.best is not None else None

    def best_steps(self) -> list[int]:
        """The steps of all checkpoints that have been scored, the best first."""
        if self.best is None:
            return []
        scored = {step: self._manager.metrics(step) for step in self.steps()}
        scores = {step: self._score(m) for step, m in scored.items() if m and self.best in m}
        return sorted(scores, key=lambda step: (scores[step], step), reverse=True)

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
            CheckpointError: it could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what goes wrong in writing into words."""
        try:
            yield
        except Exception as error:
            raise CheckpointError(
                f"{self.directory}: a checkpoint cannot be written: {_first_line(error)}."
                f" Whole ones: {', '.join(f'step {step}' for step in self.steps()) or 'none'}"
            ) from error

    def close(self) -> None:
        """Waits, and ends the background threads."""
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
        """The newest checkpoint that is whole, or the one of ``step``.

        Args:
            abstract_state: shapes, dtypes and shardings of the state.
            config: the run's config as JSON values, compared with the checkpoint's.
            step: a certain checkpoint instead of the newest.
            say: is told of damaged checkpoints that are passed over.

        Returns:
            The checkpoint, or None where there is none at all.

        Raises:
            CheckpointError: the checkpoint is of another model or config, ``step`` has none, or
                every checkpoint is damaged. Nothing is overwritten.
        """
        steps = self.steps()
        if step is not None:
            if step not in steps:
                raise CheckpointError(
                    f"{self.directory}: no checkpoint of step {step}; there are:"
                    f" {', '.join(map(str, steps)) or 'none'}"
                )
            steps = [step]
        damage = []
        for candidate in reversed(steps):
            try:
                restored = self._restore(candidate, abstract_state, config)
            except CheckpointError:
                raise
            except Exception as error:
                damage.append(f"step {candidate}: {_first_line(error)}")
                say(
                    f"The checkpoint of step {candidate} in {self.directory} is damaged"
                    f" ({damage[-1]}); trying the one before it."
                )
                continue
            if damage and not self._read_only:
                self._put_aside([later for later in steps if later > candidate], say)
            return restored
        if damage:
            raise CheckpointError(
                f"{self.directory}: no checkpoint there can be read ({'; '.join(damage)}). Move the"
                " folder away to start anew, or bring the files back"
            )
        return None

    def _put_aside(self, steps: list[int], say: Callable[[str], None]) -> None:
        """Moves damaged checkpoints away, so that their steps can be saved again."""
        aside = self.directory.with_name(f"{self.directory.name}_damaged")
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            for step in steps:
                target = aside / str(step)
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(self.directory / str(step), target)
            say(f"What is damaged was moved to {aside}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are aside")
        self._manager.reload()

    def _restore(self, step: int, abstract_state: Any, config: Mapping[str, Any]) -> Restored:
        small = self._manager.restore(
            step,
            args=ocp.args.Composite(progress=ocp.args.JsonRestore(), config=ocp.args.JsonRestore()),
        )
        saved = self._manager.item_metadata(step)["state"]
        self._check_same(step, abstract_state, saved.tree, small.config, config)
        state = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        ).state
        progress = dict(small.progress)
        if fingerprint(state) != progress.pop("fingerprint"):
            raise ValueError("its arrays are not those that were saved")
        return Restored(state, progress, step, small.config)

    def _check_same(
        self,
        step: int,
        abstract_state: Any,
        saved_tree: Any,
        saved_config: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        """Raises CheckpointError if the checkpoint is not one of this model and config."""
        here, there = _shapes(abstract_state), _shapes(saved_tree)
        problem = ""
        # Parameters first: a leaf of the model says more than the optimizer's copy of it.
        for name in sorted({*here, *there}, key=lambda n: (not n.startswith("params"), n)):
            if here.get(name) != there.get(name):
                problem = (
                    f"first differing leaf: {name} is {there.get(name, 'absent')} there and"
                    f" {here.get(name, 'absent')} here"
                )
                break
        old, new = flatten(dict(saved_config)), flatten(dict(config))
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key) and not _is_free(key, self._read_only):
                problem += "; " if problem else ""
                problem += (
                    f"config.{key} is {old.get(key, 'not set')!r} there and"
                    f" {new.get(key, 'not set')!r} here"
                )
                break
        if problem:
            raise CheckpointError(
                f"{self.directory}: the checkpoint of step {step} is of another run: {problem}."
                " Nothing was overwritten; choose another --workdir, or the config it was made with"
            )

    def _score(self, metrics: Mapping[str, float]) -> float:
        assert self.best is not None
        value = self.sign * metrics[self.best]
        # NaN compares with nothing, and would be taken for the best.
        return value if math.isfinite(value) else -math.inf


def free_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], *, read_only: bool = False
) -> list[str]:
    """In words, how two configs differ in keys in which a run may differ from its checkpoint.

    Args:
        old: the checkpoint's config.
        new: the run's.
        read_only: the checkpoint is only looked at, which leaves more keys free.
    """
    before, after = flatten(dict(old)), flatten(dict(new))
    return [
        f"config.{key}: {before.get(key, 'not set')!r} -> {after.get(key, 'not set')!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and _is_free(key, read_only) and key != "imports"
    ]


def fingerprint(state: Any) -> int:
    """A checksum over all bits of a pytree of arrays, worked out where the arrays are.

    Disks and copies fail without a word now and then, and the array format has no checksum.
    """
    return int(_fingerprint(list(jax.tree.leaves(state))))


@jax.jit
def _fingerprint(leaves: list[Any]) -> Any:
    total = jnp.zeros((), jnp.uint32)
    for number, leaf in enumerate(leaves):
        words = _words(jnp.asarray(leaf)).astype(jnp.uint32).ravel()
        # Odd multipliers that differ by position: a swap of two values changes the sum.
        position = jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(2654435761)
        multiplier = (position + jnp.uint32(40503 * number)) | jnp.uint32(1)
        total = total * jnp.uint32(31) + jnp.sum(words * multiplier, dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of ``leaf`` as unsigned integers of at most 32 bits."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint8)
    size = min(leaf.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(leaf, np.dtype(f"uint{8 * size}"))


def _shapes(tree: Any) -> dict[str, str]:
    """Name -> "float32 (3, 3, 16, 32)" of every array in ``tree``."""
    return {
        _name(path): f"{np.dtype(leaf.dtype).name} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _is_free(key: str, read_only: bool) -> bool:
    # With the dot, an empty section or None is as free as its keys.
    free = key in _FREE_KEYS or f"{key}.".startswith(_FREE_SECTIONS)
    return free or (read_only and f"{key}.".startswith(_FREE_TO_READ))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
