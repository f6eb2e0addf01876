"""Builds everything that a config names, and checks that it is compatible."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from flax.errors import FlaxError
from jaxtyping import PRNGKeyArray

import vitjax.data
from vitjax import metrics, models
from vitjax import parallel as parallel_modes
from vitjax.config import to_dict
from vitjax.config.lengths import Run
from vitjax.core.errors import ConfigError, UserError
from vitjax.core.validation import call, keywords_of, used_before
from vitjax.data.class_order import ClassList
from vitjax.data.dataset import Dataset
from vitjax.metrics import Declaration
from vitjax.models import counting
from vitjax.objectives.base import Objective
from vitjax.objectives.state import TrainState
from vitjax.optim import optimizer as optimizers
from vitjax.optim.optimizer import Optimizers
from vitjax.parallel.base import Parallel
from vitjax.training import checks, formats, memory, sections
from vitjax.training.checkpoints import Checkpoints
from vitjax.training.compatibility import other_outputs
from vitjax.training.sections import Checked
from vitjax.training.settings import Settings, Start, positive, train_settings
from vitjax.training.step import make_train_step
from vitjax.training.task import TASKS, Task

# Folded into the run's key for the initial parameters; no step has this number.
_INIT = 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run, built from a config.

    Attributes:
        config: the config as plain JSON values.
        seed: the seed of all randomness.
        data: a `vitjax.data.Dataset`.
        objective: the training method; it holds the model.
        optimizer: one optimizer, or one per group of the objective's parameters.
        run: the length of the run.
        parallel: how the run uses its devices.
        settings: the ``train`` section.
        checkpoint: the ``checkpoint`` section, with ``every`` in steps.
        declarations: direction and unit of each metric of an evaluation.
        final_declarations: the same for the objective's final metrics.
        start: the weights that a new run starts from; None for fresh ones.
    """

    config: dict[str, Any]
    seed: int
    data: Dataset
    objective: Objective
    optimizer: Optimizers
    run: Run
    parallel: Parallel
    settings: Settings
    checkpoint: dict[str, Any]
    declarations: Mapping[str, Declaration]
    final_declarations: Mapping[str, Declaration]
    start: Start | None = None

    @functools.cached_property
    def task(self) -> Task[Any, Any]:
        """The task of the objective."""
        return TASKS[self.objective.task](self)

    @property
    def initial_key(self) -> PRNGKeyArray:
        """The key of the initial variables."""
        return jax.random.fold_in(jax.random.key(self.seed), _INIT)

    def initial_variables(self) -> dict[str, Any]:
        """Fresh variables of the objective, even if the run starts from weights."""
        return self.objective.init(self.initial_key, self.data.example_batch())

    def initial_state(self, variables: dict[str, Any] | None = None) -> TrainState:
        """The state before the first step.

        Args:
            variables: the initial variables, see `vitjax.training.initialization`; None for fresh
                ones.
        """
        variables = self.initial_variables() if variables is None else variables
        return TrainState.create(
            variables,
            optimizers.init(self.optimizer, variables["params"]),
            seed=self.seed,
            ema=self.settings.ema_decay is not None,
            own=self.objective.own_collections,
        )

    def abstract_state(self) -> TrainState:
        """The shapes, dtypes and shardings of `initial_state`; nothing is computed."""
        state = jax.eval_shape(self.initial_state)
        return jax.tree.map(
            lambda leaf, sharding: leaf.update(sharding=sharding),
            state,
            self.parallel.state_sharding(state),
        )

    def train_step(self, *, donate: bool = True) -> Callable[[Any, Any], Any]:
        """The compiled training step ``(state, batch) -> (state, metrics)``.

        It takes a placed state and a batch as of `place_batch`.

        Args:
            donate: reuse the memory of the state for the new one.
        """
        objective = self.objective
        if self.parallel.axis_name is not None:
            objective = objective.over_axis(self.parallel.axis_name)
        step = make_train_step(objective, self.optimizer, ema_decay=self.settings.ema_decay)
        return self.parallel.compile(step, state=self.abstract_state(), donate=donate)

    def place_batch(self) -> Callable[[Any], Any]:
        """A function that places a batch on the devices and looks up the images it refers to."""
        return lambda batch: self._look_up(self.parallel.place_batch(batch))

    def batches_ahead(self, host_batches: parallel_modes.Batches) -> Generator[Any, None, None]:
        """Yields the batches of this host as `place_batch` returns them.

        A thread reads and places them. It launches no program: all hosts have to launch programs in
        the same order, and images are looked up on all hosts together. Closing the iterator closes
        ``host_batches``.
        """
        place = self.parallel.place_batch
        with contextlib.closing(parallel_modes.ahead(host_batches, place)) as placed:
            yield from map(self._look_up, placed)

    @functools.cached_property
    def _look_up(self) -> Callable[[Any], Any]:
        """Looks up the images that a placed batch refers to; their store is placed once."""
        if self.data.store is None:
            return lambda batch: batch
        placed = self.parallel.replicate(self.data.store)
        look_up = self.parallel.compile(self.data.look_up, split=True)
        return lambda batch: look_up(placed, batch)

    def check_batch_size(self) -> None:
        """Raises ConfigError unless a batch divides evenly into devices and micro-batches."""
        size, shards = self.data.batch_size, self.parallel.batch_shards
        parts = self.settings.accumulation_steps * shards
        if size % parts:
            near = max(1, round(size / parts)) * parts
            each = "devices" if shards == len(self.parallel.devices) else "groups of devices"
            raise ConfigError(
                f"config.data.batch_size is {size}, which does not divide evenly into {shards}"
                f" {each} with {self.settings.accumulation_steps} micro-batches each; {near} does"
            )

    def checkpoints(
        self, directory: Path, *, read_only: bool = False, resuming: bool | None = None
    ) -> Checkpoints:
        """The run's checkpoints in ``directory``; arguments are those of `Checkpoints`."""
        resuming = not read_only if resuming is None else resuming
        arguments = {key: value for key, value in self.checkpoint.items() if key != "every"}
        best = self.checkpoint.get("best")
        return Checkpoints(
            directory,
            read_only=read_only,
            resuming=resuming,
            free_keys=self.free_keys(read_only=not resuming),
            higher_is_better=bool(best is not None and self.declared(best).higher_is_better),
            explain=self._explain,
            **arguments,
        )

    def _explain(self, saved_tree: Any) -> str:
        """What differs between this run and a checkpoint whose head has other outputs."""
        pattern = self.objective.model.head_pattern
        found = other_outputs(saved_tree, self.abstract_state(), pattern)
        return "" if found is None else self.task.explain_outputs(*found)

    def free_keys(self, *, read_only: bool = False) -> tuple[str, ...]:
        """The config keys in which this run may differ from its checkpoint, as its parts declare.

        Args:
            read_only: whether the checkpoint is only read.
        """
        fields = [f"objective.{name}" for name in self.objective.evaluation_fields]
        keys = [f"data.{name}" for name in TASKS[self.objective.task].evaluation_keys]
        module = self.objective.model
        names = [f"model.{name}" for name in module.free_execution_fields()]
        if module.backbone is not None:
            section, inner = module.backbone
            names += [f"model.{section}.{name}" for name in inner.free_execution_fields()]
        if read_only:
            # An evaluation may compute in another dtype, as float32 where float16 overflows.
            names += [f"model.{name}" for name in (*module.evaluation_fields, "dtype")]
        return (*fields, *keys, *names)

    def declared(self, metric: str) -> Declaration:
        """The declaration of a metric that is named with its split, such as ``"val/accuracy"``.

        ``"val/iou_per_class/1"`` is one entry of an array.
        """
        name = metric.partition("/")[2]
        return self.declarations[name if name in self.declarations else name.rpartition("/")[0]]


def build(
    config: Any,
    description: Mapping[str, Any] | None = None,
    *,
    classes: ClassList | None = None,
    complete: bool = False,
    trained: bool = False,
    used: Mapping[str, Any] | None = None,
    where: str = "data.json",
    planned: bool = False,
) -> Experiment:
    """Builds everything that a config names.

    Names and keys are checked first, so that a typo is reported before the data is read.

    Args:
        config: a ConfigDict or plain sections.
        description: what `vitjax.data.Dataset.describe` returned, if the data is not needed.
        classes: the classes of the run whose variables are used: those of the data are matched to
            them by name, see `vitjax.data.create`.
        complete: whether the data must have all of them.
        trained: whether the run is only evaluated, so that its data may be another.
        used: the config that the run was trained with, if there is one: bounds of its optimizer
            and schedule are for new values.
        where: the file that ``description`` was read from, for errors.
        planned: whether nothing will be allocated, so that the memory of this machine does not
            matter.

    Raises:
        ConfigError: an unknown section, name or key, naming the near match; the data's classes are
            not those of the run.
        DataError: the data cannot be read.
    """
    plain = formats.current_words(to_dict(config))
    with used_before(sections.of_training(used or {})):
        parts = sections.checked(plain)
        given = parts.sections
        if description is None:
            data = vitjax.data.create(
                seed=given.seed, run_classes=classes, all_classes=complete, **given.data
            )
        else:
            data = vitjax.data.recall(description, seed=given.seed, where=where, **given.data)
        recalled = description is not None
        return _build(plain, parts, data, recalled=recalled, trained=trained, planned=planned)


def check(config: Any) -> None:
    """Checks a config as `build` does before it reads data.

    Args:
        config: as of `build`.

    Raises:
        ConfigError: an unknown section, name or key, or a value that no data makes right.
    """
    sections.checked(formats.current_words(to_dict(config)))


def _build(
    config: dict[str, Any],
    parts: Checked,
    source: Dataset,
    *,
    recalled: bool,
    trained: bool,
    planned: bool,
) -> Experiment:
    given, method, constructor = parts.sections, parts.method, parts.constructor
    model_arguments, method_arguments = parts.model_arguments, parts.method_arguments
    seed, start, devices = given.seed, parts.start, parts.devices
    groups, offered = method.parameter_groups, parts.offered
    # Padding allows any size, so a run can be evaluated on other devices than its own.
    source.eval_batch_size = devices.round_up(source.eval_batch_size)

    checks.has_step(given.train, source)
    run = Run.of(given.train, source.steps_per_epoch, where="config.train")
    settings = train_settings(given.train, run)
    needed = method.model_outputs(source)
    if "num_classes" in keywords_of(constructor):
        model_arguments.setdefault("num_classes", needed)
    num_classes = model_arguments.get("num_classes", needed)
    fewest = method.fewest_outputs(source, method_arguments)
    checks.outputs(num_classes, needed, fewest if "num_classes" in offered else None, source.target)
    with _blaming("config.model"):
        try:
            module = models.create(parts.model_name, **model_arguments)
        except ConfigError as error:
            raise ConfigError(f"config.model: {error}") from error
    devices = devices.for_model(module)
    offers: dict[str, Any] = {
        "model": module,
        "num_classes": max(num_classes or 0, needed) if needed is not None else source.num_classes,
        "num_train_classes": source.num_train_classes,
        "class_names": source.class_names,
        "class_counts": functools.cache(lambda: source.class_counts("train")),
        "normalize": source.normalize,
        "target": source.target,
        # Under pmap each device runs its own program, which sees only its part of a batch.
        "devices": 1 if devices.axis_name is not None else devices.batch_shards,
    }
    built = call(
        method,
        method_arguments,
        where="config.objective",
        **{name: offers[name] for name in offered},
    )
    with _blaming("config.model"):
        batch = source.example_batch(evaluated=True)
        if counting.is_deep(module) and not planned:  # tracing it takes long
            inputs = jax.eval_shape(built.inputs, source.example_batch())
            counting.check_memory(counting.size_of(module, inputs), "config.model")
        variables = jax.eval_shape(lambda: built.init(jax.random.key(0), source.example_batch()))
        evaluated = metrics.declarations(jax.eval_shape(built.evaluate, variables, batch))
        final = metrics.declarations(jax.eval_shape(built.final_metrics, variables, batch))
    saving = positive(
        run.resolve(given.checkpoint or {}, ["every"], where="config.checkpoint"), ["every"]
    )
    rule = settings.early_stopping
    # Data without a split "train" is only evaluated.
    chooses = "train" in source.splits
    if rule is not None:
        # The run then keeps its best state by the same metric.
        saving.setdefault("best", rule.metric)
        where = "config.train.early_stopping.metric"
        if chooses:
            checks.metric(rule.metric, where, evaluated, final, source.splits)
    if saving.get("best") is not None and chooses:
        checks.metric(saving["best"], "config.checkpoint.best", evaluated, final, source.splits)
    updates, changed = sections.create_optimizers(
        groups,
        variables["params"],
        given.optimizer,
        given.schedule or {},
        run,
        settings.accumulation_steps,
        built.layer_groups,
    )
    built.check(variables, source, changed, fresh=start is None)
    if not trained:
        built.check_training()
    experiment = Experiment(
        config=config,
        seed=seed,
        data=source,
        objective=built,
        optimizer=updates,
        run=run,
        parallel=devices,
        settings=settings,
        checkpoint=saving,
        declarations=evaluated,
        final_declarations=final,
        start=start,
    )
    devices.check(jax.eval_shape(experiment.initial_state, variables))
    _ = experiment.task  # which checks that the data and the objective have what it needs
    if planned:
        return experiment
    further = None
    if not trained:
        state = jax.eval_shape(lambda params: optimizers.init(updates, params), variables["params"])
        further = state, variables["params"] if settings.ema_decay is not None else None
    read = None if recalled else source
    steps = settings.accumulation_steps
    memory.check(memory.Needs(read, built, variables, further, steps), devices)
    return experiment


@contextlib.contextmanager
def _blaming(section: str) -> Iterator[None]:
    """Turns an error of building or tracing into one that names the config section."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, ZeroDivisionError, FlaxError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(f"{section}: cannot build this model: {reason[0]}") from error
