"""The training loop: one for every objective."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from vitjax import metrics as metrics_
from vitjax.config import user_code
from vitjax.core.atomic import write_json
from vitjax.core.errors import UserError
from vitjax.core.names import count_parameters
from vitjax.core.paths import expanded
from vitjax.core.text import Say, duration, printable, say_nothing
from vitjax.metrics import Declaration, Uncounted
from vitjax.objectives.state import TrainState
from vitjax.optim.optimizer import learning_rates
from vitjax.parallel.devices import describe_devices
from vitjax.training import agreement, checks, flops, initialization, resuming, summary, workdir
from vitjax.training.checkpoint_files import CheckpointError, begun, check_path
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.compatibility import free_changes
from vitjax.training.evaluation import Evaluator, plain
from vitjax.training.experiment import Experiment
from vitjax.training.interruption import Interrupted, signals
from vitjax.training.logging import Logger, speed_text
from vitjax.training.profiling import Clock, Profiler
from vitjax.training.progress import noted_if_long
from vitjax.training.resuming import DataNow, Patience, Resumed
from vitjax.training.settings import EarlyStopping


class Finished(NamedTuple):
    """A run that has ended, with what is compiled and in memory.

    Attributes:
        evaluator: of the run's experiment.
        variables: the final ones, placed on the devices.
        step: that of the variables.
        folder: the run's folder.
        summary: the contents of ``summary.json``.
        say: receives progress messages.
    """

    evaluator: Evaluator
    variables: Any
    step: int
    folder: Path
    summary: Mapping[str, Any]
    say: Say


AtEnd = Callable[[Finished], None]


class DivergedError(UserError):
    """The loss or the gradient is NaN or infinite."""


def train(
    experiment: Experiment,
    folder: str | Path,
    say: Callable[[str], None] = print,
    *,
    accept_data_change: bool = False,
    started: workdir.Started | None = None,
    at_end: AtEnd | None = None,
) -> dict[str, Any]:
    """Trains until the end of the run, from the newest checkpoint if there is one.

    Args:
        experiment: what to train.
        folder: the run's folder; it is created, and locked during the run.
        say: receives progress messages.
        accept_data_change: resume although the examples are not those of the run.
        started: how the run was started, which is noted in its folder.
        at_end: called when the results and the figures of the run are written, while its folder is
            locked; an error in it becomes a warning.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        ConfigError: a batch does not divide evenly into devices, the data has other classes than
            those that the run started with, the task refuses to resume with changed data, or
            hosts differ.
        WorkdirError: another run writes there.
        WeightsError: the weights to start from cannot be read, or do not fit.
        DataError: the examples are not those that the run was trained on.
        CheckpointError: the folder holds checkpoints of another model or config, or its path is not
            UTF-8.
        DivergedError: the loss, the norm of the gradient or a parameter is NaN or infinite.
        Interrupted: after SIGTERM or SIGINT, with a checkpoint written.
    """
    folder = Path(expanded(folder))
    checks.trainable(experiment.data, experiment.objective)
    experiment.check_batch_size()
    check_path(folder)
    if jax.process_index() > 0:
        say = say_nothing
    now = DataNow.of(experiment)
    agreement.check(experiment.config, now.examples, folder)
    # Weights are read before the folder is created, so that an error leaves none behind; with a
    # checkpoint they are not needed any more.
    loaded = None
    if experiment.start is not None and not begun(folder / workdir.CHECKPOINTS):
        loaded = initialization.variables(experiment, say)
    with contextlib.ExitStack() as stack:
        # Only the first host writes; the others take part in checkpoints.
        if jax.process_index() == 0:
            stack.enter_context(workdir.lock(folder))
        agreement.check_folder(folder)
        if begun(folder / workdir.CHECKPOINTS):
            resuming.check(experiment, folder, now, accept_data_change)
        checkpoints = experiment.checkpoints(folder / workdir.CHECKPOINTS)
        stack.callback(checkpoints.close)
        restored = checkpoints.restore(
            experiment.abstract_state(), config=experiment.config, say=say
        )
        if jax.process_index() == 0:
            workdir.write_config(folder, user_code.save(experiment.config, folder, say))
            write_json(folder / workdir.DATA, now.described)
            if started is not None:
                write_json(folder / workdir.STARTED, started._asdict())
        for note in experiment.data.notes:
            say(printable(note))
        say(f"Training on {describe_devices()}; the run is in {folder}")
        if restored is None:
            variables, origin = loaded or initialization.variables(experiment, say)
            # Placed first, so that the optimizer's state is placed as its parameters.
            variables = jax.device_put(variables, experiment.parallel.state_sharding(variables))
            state = experiment.initial_state(variables)
            progress: dict[str, Any] = {"init": origin}
            del variables
        else:
            state, progress = restored.state, restored.progress
            say(f"Resuming from the checkpoint of step {restored.step}")
            # Again, as an older checkpoint may have replaced a damaged one.
            resumed = Resumed(restored.step, progress)
            other = resumed.check(experiment, folder, now, accept=accept_data_change, again=True)
            if other and resumed.has_ended(experiment):
                say(f"  the data has changed, and no step is left to learn from it: {other}")
            elif other:
                say(f"  the data has changed, which was accepted: {other}")
                earlier = restored.progress.get("data_changes", ())
                progress["data_changes"] = [*earlier, {"step": restored.step, "change": other}]
            keys = experiment.free_keys()
            for change in free_changes(restored.config, experiment.config, free_keys=keys):
                say(f"  changed since: {change}")
        progress["data"], progress["classes"] = now.examples, now.classes
        logger = Logger(
            folder,
            step=int(state.step),
            total=experiment.run.steps,
            quiet=jax.process_index() > 0,
        )
        stack.callback(logger.close)
        # Printed lines must not break the progress bar.
        say = logger.say if say is print else say
        experiment = experiment.task.prepare(state.variables, folder / workdir.FEATURES, say)
        loop = _Loop(experiment, folder, checkpoints, logger, say, state, progress)
        del state, restored, loaded
        if not loop.ended:
            loop.run()
        return loop.finish(at_end)


class _Loop:
    """The state of one call of `train`."""

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        checkpoints: Checkpoints,
        logger: Logger,
        say: Callable[[str], None],
        state: TrainState,
        progress: dict[str, Any],
    ):
        self.experiment, self.folder = experiment, folder
        self.checkpoints, self.logger, self.say = checkpoints, logger, say
        self.evaluator = Evaluator(experiment, say)
        self.total = experiment.run.steps
        self.step = int(state.step)
        self.parameters = count_parameters(state.params)
        self.state = experiment.parallel.place_state(state)
        self.next_batch = progress.get("next_batch", 0)
        rule = experiment.settings.early_stopping
        self.stopping_metric = rule.metric if rule is not None else None
        self.patience = Patience.saved(progress, rule)
        self.origin = progress.get("init")
        self.identity, self.classes = progress["data"], progress["classes"]
        self.data_changes = progress.get("data_changes", ())
        self.clock = Clock(experiment.data.batch_size, progress.get("clock"))
        # As of the last checkpoint, so that a finished run that is started again reports the same.
        self.seconds_of = self.clock.split
        experiment.data.skipped.update(progress.get("skipped", {}))
        # The metrics of the steps since the last report, on the device.
        self.pending: list[Any] = []
        self.grad_norm = math.nan
        # The evaluation of the current step; empty if there was none.
        self.evaluated: dict[str, float] = {}

    @property
    def stopped_early(self) -> bool:
        """Whether the patience of early stopping is used up."""
        return self.patience.used_up(self.experiment.settings.early_stopping)

    @property
    def ended(self) -> bool:
        """Whether no step is left."""
        return self.step >= self.total or self.stopped_early

    def run(self) -> None:
        """Takes the remaining steps."""
        experiment, settings = self.experiment, self.experiment.settings
        train_step = experiment.train_step()
        host_batches = experiment.data.train_batches(
            start=self.next_batch,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        batches = experiment.batches_ahead(host_batches)
        text = "The training step is being compiled, which can take minutes"
        text = "; ".join(part for part in (text, experiment.objective.compilation_hint) if part)
        compiling: contextlib.AbstractContextManager[None] = noted_if_long(self.say, text)
        profiler = Profiler(settings.profile_steps, self.folder / "profile", self.say)
        with contextlib.closing(batches), signals() as received, profiler:
            for batch in self.clock.waiting(batches):
                profiler.before(self.step, self.state)
                with compiling:
                    self.state, metrics = train_step(self.state, batch)
                compiling = contextlib.nullcontext()
                self.pending.append(metrics)
                self.step += 1
                self.next_batch += 1
                self.evaluated = {}
                self.logger.advance()
                self._after_step()
                if self._leaves(received):
                    self._save()
                    self.checkpoints.wait()
                    command = workdir.resume_command(self.folder)
                    raise Interrupted(received[0], self.step, command)
                if self.step == self.total or self.stopped_early:
                    break
        if self.stopped_early:
            rule = settings.early_stopping
            assert rule is not None
            self.say(
                f"Stopped early at step {self.step}: {rule.metric} has not improved for"
                f" {rule.patience} evaluations"
                + ("" if self.patience.best is None else f" (best {self.patience.best:.4f})")
            )

    def finish(self, at_end: AtEnd | None) -> dict[str, Any]:
        """Evaluates the final variables, and writes the summary and the figures."""
        step, variables = self._kept()
        facts = {
            "steps": self.step,
            "checkpoint_step": step,
            "parameters": self.parameters,
            "flops_per_example": self.flops_per_example,
            "examples_per_second": self.clock.examples_per_second,
            "mfu": self._utilisation(self.clock.examples_per_second),
            "seconds": self.clock.seconds,
            "seconds_of": self.seconds_of,
            **({"init": self.origin} if self.origin else {}),
            **({"data_changes": list(self.data_changes)} if self.data_changes else {}),
        }
        found = summary.write(self.evaluator, variables, self.folder, facts, self.say)
        if at_end is not None:
            with summary.warning("what follows the end of the run failed", self.say):
                at_end(Finished(self.evaluator, variables, step, self.folder, found, self.say))
        lengths = self.experiment.config["train"]
        key = "steps" if lengths.get("steps") is not None else "epochs"
        longer = f"--config.train.{key}={2 * lengths[key]}"
        self.say(f"To train longer: {workdir.resume_command(self.folder, longer)}")
        return found

    def _kept(self) -> tuple[int, Any]:
        """The final variables and their step: the best checkpoint if the run chooses one."""
        self.checkpoints.wait()
        best = self.checkpoints.best_step()
        if best is None or best == self.step:
            return self.step, self.state.variables
        try:
            restored = self.checkpoints.restore(
                self.experiment.abstract_state(), config=self.experiment.config, step=best
            )
        except CheckpointError as error:
            self.say(f"warning: {error}. The last state is evaluated in place of the best.")
            return self.step, self.state.variables
        assert restored is not None
        return best, self.experiment.parallel.place_state(restored.state.variables)

    def _after_step(self) -> None:
        """Reports, evaluates and saves, as the settings say for this step."""
        settings, last = self.experiment.settings, self.step == self.total
        held_out = "val" in self.experiment.data.splits
        evaluate = held_out and (last or self.step % settings.evaluate_every == 0)
        every = self.experiment.checkpoint.get("every")
        save = last or (
            self.step % every == 0 if every else self.step % settings.evaluate_every == 0
        )
        # The best checkpoint is chosen by its evaluation, so each evaluated state is saved.
        save = save or (evaluate and self.checkpoints.best is not None)
        if evaluate or save or self.step % settings.log_every == 0:
            self._report()
        if evaluate:
            self._evaluate()
        if save or (evaluate and self.stopped_early):
            self._save()

    def _leaves(self, received: list[int]) -> bool:
        """Whether a signal was received, by any host."""
        if jax.process_count() == 1:
            return bool(received)
        # Asking the other hosts waits for them, so it is done only as often as a report.
        if self.step % self.experiment.settings.log_every:
            return False
        heard = int(multihost_utils.process_allgather(np.asarray(max(received, default=0))).max())
        # A signal during the exchange stays in ``received``, and all hosts hear of it in the next.
        if heard:
            received[:] = [heard]
        return heard > 0

    def _report(self) -> None:
        """Fetches the metrics of the steps since the last report; the only wait for the device."""
        if not self.pending:
            return
        fetched = self.experiment.parallel.to_host(self.pending)
        self.pending = []
        first = self.step - len(fetched) + 1
        for step, metrics in enumerate(fetched, start=first):
            # A batch of unreadable images has no loss; the run has not diverged.
            if metrics["loss"].count:
                self._check_finite(step, metrics)
        speed = self.clock.lap(len(fetched))
        values = plain(metrics_.values(metrics_.merge(fetched)))
        self.grad_norm = values.get("grad_norm", math.nan)
        values |= learning_rates(self.experiment.optimizer, self.step - 1)
        values["examples_per_second"] = speed
        utilisation = self._utilisation(speed)
        if utilisation is not None:
            values["mfu"] = utilisation
        self.logger.write(self.step, "train", values)
        self.logger.show(values["loss"], speed_text(speed, self.experiment.data.episodic))
        if not self.logger.has_bar:
            self._say_progress(values["loss"], speed)

    def _say_progress(self, loss: float, speed: float) -> None:
        """A line in place of the progress bar; ``speed`` in examples per second."""
        text, about = speed_text(speed, self.experiment.data.episodic), "about"
        # A report of a single step says little of the steps to come.
        usual = self.clock.examples_per_second
        if self.clock.compiled_in_last_lap:
            text, about, usual = f"{text} with compilation", "less than", speed
        if self.step < self.total:
            left = (self.total - self.step) * self.experiment.data.batch_size / usual
            text = f"{text}, {about} {duration(left)} left"
        self.say(f"step {self.step}/{self.total}: train loss {loss:.4f}, {text}")

    def _check_finite(self, step: int, metrics: metrics_.Metrics) -> None:
        checked = {n: metrics[n].compute() for n in ("loss", "grad_norm") if n in metrics}
        for name, value in checked.items():
            if not math.isfinite(value):
                norm = checked.get("grad_norm", math.nan)
                self._diverge(step, f"{name} is {value} at step {step}", norm)

    def _diverge(self, step: int, what: str, norm: float) -> NoReturn:
        """Raises DivergedError; ``norm`` is that of the last gradient."""
        rates = learning_rates(self.experiment.optimizer, step - 1)
        rate = ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in rates.items())
        self.checkpoints.wait()
        kept = self.checkpoints.steps()
        raise DivergedError(
            f"{what} (gradient norm {norm:.6g}, {rate}). "
            + (
                f"The checkpoint of step {kept[-1]} is from before and is kept."
                if kept
                else "There is no checkpoint yet."
            )
            + " A smaller optimizer.learning_rate, a longer warm-up in schedule, or"
            " optimizer.clip_norm usually helps."
        )

    def _evaluate(self) -> None:
        """Evaluates on ``val``, and records and prints the metrics."""
        with self.clock.stopped("evaluation"):
            values = self.evaluator.metrics(self.state.variables, "val")
        self.logger.write(self.step, "val", values)
        # Where no example counts, as where none is labelled, the run has not diverged.
        if not math.isfinite(values["loss"]) and not isinstance(values["loss"], Uncounted):
            what = f"the validation loss is {values['loss']} after step {self.step}"
            self._diverge(self.step, what, self.grad_norm)
        self.evaluated = {f"val/{n}": value for n, value in metrics_.entries(values).items()}
        declared = self.experiment.declarations
        shown = ", ".join(
            f"{name} {declared.get(name, Declaration(None)).text(value)}"
            for name, value in values.items()
            if isinstance(value, float)
        )
        self.say(f"step {self.step}/{self.total}: val {shown}")
        if self.experiment.settings.early_stopping is not None:
            self._update_patience(self.experiment.settings.early_stopping)

    def _update_patience(self, rule: EarlyStopping) -> None:
        """Counts the evaluations since the best value of the metric of early stopping."""
        value = self.evaluated[rule.metric]
        sign = self.experiment.declared(rule.metric).sign
        best, since = self.patience
        gain = math.inf if best is None else sign * (value - best)
        # Nothing is better than a best value of NaN.
        if math.isfinite(value) and gain > rule.min_delta:
            self.patience = Patience(value, 0)
        else:
            self.patience = Patience(best, since + 1)

    def _save(self) -> None:
        """Saves a checkpoint, after checking that the run has not diverged."""
        self._report()
        if not all_finite(self.state.params):
            what = f"parameters are NaN or infinite after step {self.step}"
            self._diverge(self.step, what, self.grad_norm)
        self.seconds_of = self.clock.split
        with self.clock.stopped("checkpoints"):
            self.checkpoints.save(
                self.experiment.parallel.fetch(self.state),
                step=self.step,
                progress={
                    "next_batch": self.next_batch,
                    "clock": self.clock.state(),
                    "skipped": self.experiment.data.skipped,
                    "stopping_metric": self.stopping_metric,
                    **self.patience._asdict(),
                    "init": self.origin,
                    "data": self.identity,
                    "classes": self.classes,
                    "data_changes": list(self.data_changes),
                },
                config=self.experiment.config,
                metrics=self.evaluated,
            )

    def _utilisation(self, examples_per_second: float) -> float | None:
        """The fraction of the devices' bfloat16 peak; None if the peak is not known."""
        devices = self.experiment.parallel.devices
        peak = flops.peak_per_second(devices[0].device_kind)
        if peak is None:
            return None
        return self.flops_per_example * examples_per_second / (peak * len(devices))

    @functools.cached_property
    def flops_per_example(self) -> float:
        """FLOPs of the loss and its gradient for one example."""
        experiment = self.experiment
        state, batch = experiment.abstract_state(), experiment.data.example_batch()
        return flops.per_example(experiment.objective, state, batch)


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether ``tree`` has no NaN and no infinity."""
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(finite).all()
