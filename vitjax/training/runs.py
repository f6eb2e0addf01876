"""Reading a run, finished or not, from its folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vitjax import config as configs
from vitjax.config import user_code
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import Say, near_match, printable, shortened
from vitjax.data.class_order import ClassList, Match
from vitjax.training import checks, claimed, saved_progress, workdir
from vitjax.training import experiment as experiments
from vitjax.training.checkpoint_files import CheckpointError, RemovedError, begun
from vitjax.training.checkpoints import Checkpoints, Restored
from vitjax.training.compatibility import free_changes
from vitjax.training.experiment import Experiment
from vitjax.training.logging import read

# Keys of section ``data`` that say which images are read.
_WHICH = (
    *("source", "dataset", "data_dir", "path", "root", "splits", "levels", "classes"),
    *("images", "masks", "lists"),
)


class SavedRun:
    """The experiment and the checkpoints of a run's folder.

    Attributes:
        folder: the run's folder.
        config: the config that the run was started with, as a ConfigDict.
        described: the description of the data that the run wrote; None if it wrote none yet.
        experiment: the experiment of that config and the overrides.
        checkpoints: the checkpoints of the run, opened read-only.
    """

    def __init__(
        self,
        folder: str | Path,
        overrides: Sequence[str] = (),
        *,
        with_data: bool = True,
        same_classes: bool = True,
        say: Say = print,
    ):
        """Opens a run.

        Args:
            folder: a run's folder.
            overrides: ``--config.`` arguments on the saved config, such as the data's new path.
            with_data: whether the data itself is needed, or only the run's description of it.
            same_classes: whether the data's classes are those of the run, to be matched by name; a
                probe, which learns its own, takes any.
            say: receives what has changed since the run was started, what was understood of other
                data, and how classes are matched.

        Raises:
            ConfigError: the data has classes that the run does not have.
            WorkdirError: the folder holds no run.
            CheckpointError: the run has no checkpoint.
        """
        self.folder = Path(expanded(folder))
        self.config = read_config(self.folder, say)
        config = self.config.copy_and_resolve_references()
        configs.override(config, overrides)
        self.described = workdir.read_data(self.folder)
        self._same_classes = same_classes
        claimed.check_layers(self.folder, configs.to_dict(config))
        with naming_config(self.folder, self.config):
            self.experiment: Experiment = experiments.build(
                config,
                None if with_data else self.described,
                classes=ClassList.described(self.described) if same_classes else None,
                trained=True,
                used=configs.to_dict(self.config),
                where=str(self.folder / workdir.DATA),
            )
        if any(self.config.data.get(key) != config.data.get(key) for key in _WHICH):
            for note in self.experiment.data.notes:
                say(printable(note))
        if self.experiment.data.matched is not None:
            say_match(self.experiment.data.matched, self.config.data, config.data, say)
        directory = self.folder / workdir.CHECKPOINTS
        if not directory.is_dir():
            raise CheckpointError(f"{self.folder}: the run has no checkpoint yet")
        self.checkpoints: Checkpoints = self.experiment.checkpoints(directory, read_only=True)

    def close(self) -> None:
        """Closes the checkpoints."""
        self.checkpoints.close()

    def step(self, wanted: str | int | None) -> int | None:
        """The step of the requested checkpoint; None for the newest readable one.

        Args:
            wanted: ``"best"``, ``"last"`` or a step; None for the best if the run chooses one.

        Raises:
            CheckpointError: ``wanted`` is ``"best"``, but the run chooses no best checkpoint.
            ConfigError: ``wanted`` is none of these.
        """
        if wanted == "last":
            return None
        if wanted in (None, "best"):
            best = self.checkpoints.best_step()
            if wanted == "best" and best is None:
                raise CheckpointError(
                    "checkpoint=best: this run chooses no best checkpoint (config.checkpoint.best)"
                )
            return best
        try:
            return int(wanted)
        except ValueError:
            raise ConfigError(
                f"checkpoint={wanted}: must be 'best', 'last' or a step"
                f"{near_match(str(wanted), ('best', 'last'))}"
            ) from None

    def variables(self, step: int | None, say: Say, *, changes: bool = True) -> tuple[Any, int]:
        """The placed variables of a checkpoint, and its step.

        Args:
            step: its step; None for the newest readable one.
            say: receives what was loaded.
            changes: whether to report the config keys that differ from the run's.

        Raises:
            CheckpointError: it does not exist, or is of another model.
            DataError: ``data.json`` has other classes than the checkpoint learned.
        """
        experiment = self.experiment
        restored = self.checkpoints.restore(
            experiment.abstract_state(), config=experiment.config, step=step, say=say
        )
        if restored is None:
            raise CheckpointError(f"{self.folder}: the run has no checkpoint yet")
        self._check_classes(restored)
        say(f"Checkpoint of step {restored.step} of {experiment.run.steps}")
        if changes:
            changed = free_changes(
                restored.config,
                experiment.config,
                read_only=True,
                free_keys=experiment.free_keys(read_only=True),
            )
            for change in changed:
                say(f"  changed since: {change}")
        return experiment.parallel.place_state(restored.state.variables), restored.step

    def _check_classes(self, restored: Restored) -> None:
        """Raises DataError if outputs would be taken for other classes than a checkpoint learned.

        Without ``data.json``, these are the classes of the data at hand.
        """
        classes = ClassList.described(self.described)
        if classes is None and self._same_classes:
            classes = self.experiment.data.class_list
        if classes is not None:
            checks.same_numbers(
                restored.progress.get("classes"),
                saved_progress.class_digests(classes),
                str(self.folder / workdir.DATA),
                stored=self.described is not None,
            )

    def chosen(self, wanted: str | int | None, say: Say) -> tuple[Any, int]:
        """The result of `variables` for the checkpoint that `step` finds.

        A training that runs may remove it before it is read; the next one is then taken.
        """
        while True:
            try:
                return self.variables(self.step(wanted), say)
            except RemovedError:
                if wanted not in (None, "best", "last"):
                    raise

    def check_evaluation(self, split: str) -> None:
        """Checks that the run can be evaluated on ``split`` of the experiment's data.

        Raises:
            ConfigError: the data has no such split, or the task refuses to evaluate on it.
        """
        checks.split(split, self.experiment.data.splits)
        trained, evaluated = self.config.data, self.experiment.config["data"]
        # Equal names in another data set ("0", "1") may be other classes.
        if all(trained.get(key) == evaluated.get(key) for key in ("source", "dataset")):
            self.experiment.task.check_evaluation(self.described or {}, split)

    def best_steps(self, number: int) -> list[int]:
        """The steps of the ``number`` best checkpoints, the best first.

        Raises:
            ConfigError: the run chooses no best checkpoint, or ``number`` is below 2.
            CheckpointError: fewer are kept, or some of the best are not.
        """
        checkpoints = self.checkpoints
        if number < 2:
            raise ConfigError(f"ensemble={number}: must be at least 2")
        if checkpoints.best is None:
            raise ConfigError(
                f"ensemble={number}: the run has no metric to choose checkpoints by"
                ' (config.checkpoint.best, such as "val/accuracy")'
            )
        steps = checkpoints.best_steps()
        if len(steps) < number:
            kept = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(
                f"ensemble={number}: the run kept {len(steps)} evaluated checkpoints (steps"
                f" {kept}); train with config.checkpoint.keep_best = {number} to keep"
                " enough of the best"
            )
        self._check_best(steps[:number])
        return steps[:number]

    def _check_best(self, steps: Sequence[int]) -> None:
        """Raises CheckpointError if states better than those of ``steps`` are not kept."""
        assert self.checkpoints.best is not None
        split, _, name = self.checkpoints.best.partition("/")
        kept = self.checkpoints.steps()
        records = (r for r in read(self.folder / workdir.METRICS) if r["split"] == split)
        # Of two records of a step, as after a crash, the later one counts. Steps after the newest
        # checkpoint are ignored: the resumed run will reach them again.
        scores = {
            record["step"]: self.checkpoints.sign * record[name]
            for record in records
            if isinstance(record.get(name), int | float) and record["step"] <= kept[-1]
        }
        worst = min(scores.get(step, math.inf) for step in steps)
        lost = sorted(step for step, score in scores.items() if score > worst and step not in kept)
        if lost:
            raise CheckpointError(
                f"ensemble={len(steps)}: the best are not kept: by {self.checkpoints.best},"
                f" {len(lost)} evaluated steps without a checkpoint ({shortened(lost, 8)}) were"
                f" better than some with one ({shortened(sorted(steps), 8)}). Train with"
                f" config.checkpoint.keep_best = {len(steps)} to keep the best"
            )


@contextlib.contextmanager
def naming_config(folder: Path, config: ConfigDict) -> Iterator[None]:
    """Adds the path of a run's config to errors that it causes itself, without any override."""
    try:
        yield
    except ConfigError as error:
        try:
            experiments.check(config)
        except ConfigError as own:
            if str(own) == str(error):
                raise ConfigError(f"{folder / workdir.CONFIG}: {error}") from error
        raise


def read_config(folder: str | Path, say: Say = print) -> ConfigDict:
    """The config of a run's folder, with the user's files that it imports.

    Args:
        folder: a run's folder.
        say: receives what has changed in these files since the run was started.

    Raises:
        WorkdirError: the folder holds no run.
        ConfigError: a file that it imports cannot be run.
    """
    folder = expanded(folder)
    config = workdir.read_config(Path(folder))
    user_code.restore(config, folder, say)
    return config


def to_resume(config: Any, folder: str | Path, say: Say = print) -> Experiment:
    """The experiment of a config, with the classes of the run in ``folder`` if there is one.

    Args:
        config: a ConfigDict or plain sections.
        folder: the folder to train in.
        say: receives how classes are matched.

    Raises:
        ConfigError, DataError: as of `vitjax.training.experiment.build`; the run that would be
            resumed has other classes.
    """
    folder = Path(folder)
    known = used = None
    if begun(folder / workdir.CHECKPOINTS):
        known = ClassList.described(workdir.read_data(folder))
        with contextlib.suppress(workdir.WorkdirError):  # training writes it again
            used = configs.to_dict(workdir.read_config(folder))
    experiment = experiments.build(config, classes=known, complete=True, used=used)
    if experiment.data.matched is not None and experiment.data.matched.text():
        say(experiment.data.matched.text())
    return experiment


def say_match(
    match: Match, trained: Mapping[str, Any], evaluated: Mapping[str, Any], say: Say
) -> None:
    """Reports how the classes of data are matched to those of a run.

    Args:
        match: the match.
        trained: the section ``data`` that the run was trained with.
        evaluated: the section ``data`` that is used.
        say: receives the lines.
    """
    if match.text():
        say(match.text())
    same = all(trained.get(key) == evaluated.get(key) for key in ("source", "dataset", "path"))
    if match.known.numbered and match.own.numbered and match.own.values is None and not same:
        say(
            "The classes of the run and of the data have numbers as names: class 0 of the data is"
            " taken for class 0 of the run, and so on"
        )


def load(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    with_data: bool = True,
    same_classes: bool = True,
    say: Say = print,
) -> tuple[Experiment, Any, int]:
    """The experiment of a run's folder, the variables of one of its checkpoints, and its step.

    Args:
        folder: see `SavedRun`.
        overrides: see `SavedRun`.
        checkpoint: see `SavedRun.step`.
        with_data: see `SavedRun`. Without the data, the run's section ``parallel`` is dropped as
            well: its devices may not be available here, and one forward pass needs none of them.
        same_classes: see `SavedRun`.
        say: receives what was loaded.

    Raises:
        WorkdirError: the folder holds no run.
        CheckpointError: it has no checkpoint, or not the requested one.
    """
    if not with_data:
        overrides = ("--config.parallel=None", *overrides)
    opened = SavedRun(folder, overrides, with_data=with_data, same_classes=same_classes, say=say)
    with contextlib.closing(opened) as run:
        return run.experiment, *run.chosen(checkpoint, say)
