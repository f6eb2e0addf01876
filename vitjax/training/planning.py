"""Plans a run without a step of it: memory per device, FLOPs, time, and the largest batch.

The training step is compiled from shapes alone; neither the state nor a batch is allocated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from vitjax.config import to_dict
from vitjax.core.machine import device_memory
from vitjax.core.names import count_parameters
from vitjax.core.text import Say
from vitjax.data import DataError
from vitjax.data.description import of_sizes
from vitjax.objectives.interfaces import Classifier
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.parallel.accelerators import Accelerator
from vitjax.parallel.mesh import MeshJit
from vitjax.parallel.prefetch import AHEAD
from vitjax.training import checks, flops
from vitjax.training import experiment as experiments
from vitjax.training.experiment import Experiment
from vitjax.training.plan import Memory, Plan

# Code for CPUs that is never run need not be fast. The temporaries do not depend on these.
_UNUSED_CODE: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# A search for the largest batch ends after this many compilations, or this close to the limit.
_COMPILATIONS = 6
_CLOSE = 0.02


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a plan has to know of data that is not at hand.

    Attributes:
        image: (height, width, channels) of a stored image.
        classes: the number of classes; of episodes, in each split.
        examples: the number of training examples.
    """

    image: tuple[int, int, int]
    classes: int
    examples: int


def make(
    config: Any,
    accelerator: Accelerator | None = None,
    *,
    mfu: float = 0.4,
    sizes: Sizes | None = None,
    search: bool = True,
    say: Say = print,
) -> Plan:
    """Plans a run.

    Args:
        config: a ConfigDict or plain sections. Its devices are those of JAX.
        accelerator: what the devices of JAX stand for; None for themselves.
        mfu: the fraction of the bfloat16 peak that the run is assumed to reach.
        sizes: of data that is not at hand; None reads the config's data.
        search: whether to search for the largest batch that fits, which takes some compilations.
        say: receives messages of progress.

    Raises:
        ConfigError: as of `vitjax.training.experiment.build`, the data has no split to train on, or
            the batch does not divide evenly into the devices.
        DataError: the data cannot be read, and ``sizes`` is None.
    """
    experiment = _build(config, sizes)
    checks.trainable(experiment.data, experiment.objective)
    experiment.check_batch_size()
    parallel, data, objective = experiment.parallel, experiment.data, experiment.objective
    device, count = parallel.devices[0], len(parallel.devices)
    memory: int | None
    peak: float | None
    if accelerator is not None:
        kind, memory, peak = accelerator.kind, int(accelerator.memory), accelerator.peak
    else:
        kind, memory = device.device_kind, device_memory(device).size
        peak = flops.peak_per_second(kind)
        if memory is not None and device.platform == "cpu":  # one memory for all
            memory //= count
    state, example = experiment.abstract_state(), _example(experiment)
    trained, frozen = _parameters(experiment, state)
    step = _Step(experiment, state, example, say)
    used = step.memory(data.batch_size)
    largest = None
    if search and memory is not None:
        largest = largest_batch(
            lambda size: step.memory(size).total,
            memory,
            data.batch_size,
            unit=parallel.batch_shards * experiment.settings.accumulation_steps,
            most=None if data.episodic else data.num_examples("train"),
        )
    model = experiment.config["model"]
    return Plan(
        model=" in ".join(str(model[key]) for key in ("name", "dtype") if model.get(key)),
        device=kind,
        devices=count,
        mesh=parallel.mesh.shape if isinstance(parallel, MeshJit) else {"data": count},
        compiled_for=device.platform,
        stands_for_another=accelerator is not None,
        batch_size=data.batch_size,
        unit="episode" if data.episodic else "example",
        parameters=(count_parameters(trained), count_parameters(frozen)),
        flops_per_step=flops.per_example(objective, state, example) * data.batch_size,
        memory=used,
        device_memory=memory,
        peak=peak,
        mfu=mfu,
        steps=experiment.run.steps,
        largest_batch=largest,
        batch_shards=parallel.batch_shards,
    )


def largest_batch(
    needed: Callable[[int], int], memory: int, first: int, *, unit: int = 1, most: int | None = None
) -> int:
    """The largest batch size that fits, to about 2%; 0 if none does.

    What a batch needs grows almost linearly, so that few sizes are tried.

    Args:
        needed: the bytes that a batch size needs.
        memory: the bytes that there are.
        first: a multiple of ``unit`` that is tried first.
        unit: a batch size must be a multiple of it.
        most: the largest size of interest; None for no limit.
    """
    start = first // unit
    top = None if most is None else max(start, most // unit)
    tried: dict[int, int] = {}
    guess = start
    for _ in range(_COMPILATIONS):
        tried[guess] = needed(guess * unit)
        low = max((n for n, size in tried.items() if size <= memory), default=0)
        high = min((n for n, size in tried.items() if size > memory), default=None)
        if low == top or (high is not None and high - low <= max(1, _CLOSE * low)):
            break
        if len(tried) == 1:
            guess = start // 2 if start > 1 else 2
            continue
        a, b = sorted(tried, key=lambda n: abs(tried[n] - memory))[:2]
        slope = (tried[b] - tried[a]) / (b - a)
        if slope <= 0:
            break
        guess = a + math.floor((memory - tried[a]) / slope)
        if top is not None:
            guess = min(guess, top)
        if high is not None:
            guess = min(guess, high - 1)
        guess = max(guess, 1)
        # The line says that the next size would not fit, or that it hardly matters.
        if guess in tried or 0 <= guess - low <= _CLOSE * low:
            break
    return unit * max((n for n, size in tried.items() if size <= memory), default=0)


def peak_bytes(found: Any) -> int:
    """The bytes that a compiled program takes on a device, by XLA's analysis of its memory.

    Arguments, results and temporary values; what is donated counts once.

    Args:
        found: as of `jax.stages.Compiled.memory_analysis`.
    """
    arguments, aliased = found.argument_size_in_bytes, found.alias_size_in_bytes
    return int(arguments + found.output_size_in_bytes - aliased + found.temp_size_in_bytes)


class _Step:
    """The training step for batches of any size, compiled from shapes."""

    def __init__(self, experiment: Experiment, state: TrainState, example: Any, say: Say):
        self.experiment, self.state, self.example, self.say = experiment, state, example, say
        self.found: dict[int, Memory] = {}

    def memory(self, batch_size: int) -> Memory:
        """What one device needs for a step with a batch of this size."""
        if batch_size not in self.found:
            self.found[batch_size] = self._memory(batch_size)
        return self.found[batch_size]

    def _memory(self, batch_size: int) -> Memory:
        experiment, state = self.experiment, self.state
        parallel, data = experiment.parallel, experiment.data
        self.say(f"Compiling the step for a batch of {batch_size:,}")
        waiting = _of_size(self.example, batch_size)
        batch, store = waiting, 0
        if data.store is not None:
            batch = jax.eval_shape(data.look_up, data.store, waiting)
            store = _bytes_of(data.store)
        arguments: tuple[Any, Any] = state, batch
        if parallel.axis_name is not None:  # each device has its own copy, and its part
            devices = len(parallel.devices)
            arguments = _stacked(state, devices), _cut(batch, devices)
        on_cpu = parallel.devices[0].platform == "cpu"
        step: Any = experiment.train_step()
        options = _UNUSED_CODE if on_cpu else None
        found = step.lower(*arguments).compile(compiler_options=options).memory_analysis()
        # With the results that reuse no memory of the state, which are the metrics.
        temporary = peak_bytes(found) - found.argument_size_in_bytes
        trained, frozen = _parameters(experiment, state)
        gradients = min(temporary, _bytes_of(trained))
        parameters = _bytes_of((trained, frozen))
        known = _bytes_of((state.params, state.model_state))
        # One batch is in use, some wait, and a thread holds the next one.
        ahead = (1 + AHEAD) * _bytes_of(waiting)
        return Memory(
            parameters=parameters,
            other_variables=known - parameters + _bytes_of((state.step, state.rng)),
            optimizer=_bytes_of(state.opt_state),
            ema=_bytes_of(state.ema),
            data=store,
            batch=(_bytes_of(batch) + ahead) // parallel.batch_shards,
            gradients=gradients,
            activations=temporary - gradients,
        )


def _build(config: Any, sizes: Sizes | None) -> Experiment:
    """The experiment of a config, on blank data where ``sizes`` are given."""
    if sizes is None:
        try:
            return experiments.build(config, planned=True)
        except DataError as error:
            raise DataError(
                f"{error}. A plan does without the data if it has the sizes, for example"
                " --image=224,224,3 --classes=1000 --examples=1281167"
            ) from error
    section = to_dict(config).get("data") or {}
    described = of_sizes(
        sizes.image, sizes.classes, sizes.examples, episodic=bool(section.get("episodes"))
    )
    where = "--image, --classes, --examples"
    return experiments.build(config, described, where=where, planned=True)


def _example(experiment: Experiment) -> Any:
    """The shapes of a training batch of one example."""
    example = experiment.data.example_batch()
    objective = experiment.objective
    if not (isinstance(objective, Classifier) and objective.caches_features):
        return example
    frozen = experiment.abstract_state().model_state

    def features(variables: Any, images: Any) -> Any:
        return objective.features(variables, experiment.data.normalize(images))

    computed = jax.eval_shape(features, frozen, example["image"])
    others = {name: array for name, array in example.items() if name != "image"}
    return {**others, "features": computed}


def _parameters(experiment: Experiment, state: TrainState) -> tuple[Any, Any]:
    """The trained parameters, and the frozen ones."""
    optimizer = experiment.optimizer
    if isinstance(optimizer, Optimizer):
        changed = optimizer.trained
    else:
        changed = {name: each.trained for name, each in optimizer.items()}
    pairs = list(zip(jax.tree.leaves(state.params), jax.tree.leaves(changed), strict=True))
    collection = state.model_state.get(FROZEN, {})
    elsewhere = collection.get("params", collection)
    still = [leaf for leaf, trained in pairs if not trained]
    return [leaf for leaf, trained in pairs if trained], [*still, *jax.tree.leaves(elsewhere)]


def _of_size(example: Any, size: int) -> Any:
    """The shapes of a batch of ``size`` examples."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), example)


def _stacked(state: Any, devices: int) -> Any:
    """The shapes of a state under ``pmap``."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), state)


def _cut(batch: Any, devices: int) -> Any:
    """The shapes of a batch under ``pmap``."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((devices, x.shape[0] // devices, *x.shape[1:]), x.dtype),
        batch,
    )


def _bytes_of(tree: Any) -> int:
    """The bytes of arrays on one device: of their part of those that have a sharding."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
        total += math.prod(shape) * leaf.dtype.itemsize
    return total
