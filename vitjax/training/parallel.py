"""Where arrays live and how a step is compiled: ``jit`` over a device mesh, or ``pmap``.

Both train with the global batch split over all devices and the state on each of them, and both give
the numbers of one device. What is drawn at random within a step (dropout, mixing) is drawn for the
whole batch under ``jit`` and on each device under ``pmap``. ``jit`` is the main way; ``pmap`` is
kept as a second one, for one host.
"""

from __future__ import annotations

import abc
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from vitjax.registry import ConfigError, Registry
from vitjax.training.memory import compute_in_the_calling_thread, keep_freed_memory

AXIS = "data"


class Parallel(abc.ABC):
    """A way to spread batches over devices.

    Attributes:
        devices: all devices of the run, over all hosts.
        single: the sharding of a state's one copy, as checkpoints restore it.
        axis_name: the axis that steps sum over, or None where the compiler does so by itself.
    """

    axis_name: str | None = None
    single: jax.sharding.Sharding  # of a state's one copy, before `place_state`

    def __init__(self, devices: int | None = None):
        compute_in_the_calling_thread()
        available = jax.devices()
        if devices is not None and not 1 <= devices <= len(available):
            raise ConfigError(
                f"config.parallel.devices is {devices}; there are {len(available)} devices"
            )
        if devices not in (None, len(available)) and jax.process_count() > 1:
            raise ConfigError("config.parallel.devices: on several hosts all devices are used")
        self.devices = available[:devices]
        if self.devices[0].platform == "cpu":
            keep_freed_memory()

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """A pytree of arrays, one copy on every device."""

    @abc.abstractmethod
    def fetch(self, state: Any) -> Any:
        """The one copy of what `place_state` or a compiled step gave, without a device axis."""

    @abc.abstractmethod
    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """This host's share of a global batch, split over its devices."""

    @abc.abstractmethod
    def compile(
        self, step: Callable[..., Any], *, donate: bool = False, split: bool = False
    ) -> Callable[..., Any]:
        """``step(state, batch)`` for placed arguments.

        Args:
            step: a pure function.
            donate: give the state's memory away.
            split: the result is a batch, split as the argument is; else each device has all of it.
        """

    def round_up(self, batch_size: int) -> int:
        """The next larger batch size that the devices can share evenly."""
        return -(-batch_size // len(self.devices)) * len(self.devices)


ways: Registry[Callable[..., Parallel]] = Registry("parallel mode")


@ways.register("jit")
class MeshJit(Parallel):
    """One program over a named mesh: the compiler splits it along the batch."""

    def __init__(self, devices: int | None = None):
        super().__init__(devices)
        # Auto, on purpose: under Explicit axes every array's type would carry its sharding.
        self.mesh = jax.make_mesh(
            (len(self.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )
        self.single = self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def place_state(self, state: Any) -> Any:
        """A pytree of arrays, one copy on every device."""
        return jax.device_put(state, self.replicated)

    def fetch(self, state: Any) -> Any:
        """The state itself: its arrays are whole already."""
        return state

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Global arrays, split along their first axis."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.split, x), dict(batch)
        )

    def compile(
        self, step: Callable[..., Any], *, donate: bool = False, split: bool = False
    ) -> Callable[..., Any]:
        """``jit`` with a replicated state, a split batch and replicated or split results."""
        return jax.jit(
            step,
            in_shardings=(self.replicated, self.split),
            out_shardings=self.split if split else self.replicated,
            donate_argnums=(0,) if donate else (),
        )


@ways.register("pmap")
class Pmap(Parallel):
    """One program per device, with explicit sums over the axis; arrays carry a device axis."""

    axis_name = AXIS

    def __init__(self, devices: int | None = None):
        super().__init__(devices)
        if jax.process_count() > 1:
            raise ConfigError("config.parallel.mode: 'pmap' is for one host; several take 'jit'")
        self.local = [d for d in self.devices if d.process_index == jax.process_index()]
        self.single = SingleDeviceSharding(self.local[0])
        mesh = Mesh(np.asarray(self.local), (AXIS,), axis_types=(AxisType.Auto,))
        self.stacked = NamedSharding(mesh, PartitionSpec(AXIS))

    def place_state(self, state: Any) -> Any:
        """A pytree of arrays with a leading device axis."""
        copies = len(self.local)
        return jax.tree.map(
            lambda x: jax.device_put(
                np.broadcast_to(np.asarray(x), (copies, *np.shape(x))), self.stacked
            ),
            state,
        )

    def fetch(self, state: Any) -> Any:
        """The first device's copy."""
        return jax.tree.map(lambda x: x.addressable_shards[0].data[0], state)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """(batch, ...) as (devices, batch / devices, ...)."""
        copies = len(self.local)
        return jax.tree.map(
            lambda x: jax.device_put(x.reshape(copies, -1, *x.shape[1:]), self.stacked),
            dict(batch),
        )

    def compile(
        self, step: Callable[..., Any], *, donate: bool = False, split: bool = False
    ) -> Callable[..., Any]:
        """``pmap`` of the step over the device axis of both arguments; all results have one."""
        return jax.pmap(
            step, axis_name=AXIS, devices=self.devices, donate_argnums=(0,) if donate else ()
        )


def create(*, mode: str = "jit", **arguments: Any) -> Parallel:
    """The way that a config's ``parallel`` section asks for.

    Raises:
        ConfigError: an unknown mode or key, or more devices than there are.
    """
    return ways.create(mode, where="config.parallel", **arguments)


def ahead(
    batches: Iterable[Any], place: Callable[[Any], Any], size: int = 2
) -> Generator[Any, None, None]:
    """Yields ``place(batch)`` for every batch, made by a thread up to ``size`` batches ahead.

    So the next batches are on the device before the step that needs them. An error in ``batches``
    is raised here, in its place. Closing the iterator ends the thread and closes ``batches``.
    """
    results: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=size)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                results.put((kind, value), timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for batch in batches:
                put("batch", place(batch))
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def describe_devices() -> str:
    """The devices in words: ``"2 x NVIDIA H100 (gpu)"``, ``"CPU, 2 cores"``."""
    devices = jax.devices()
    hosts = f" on {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    kind, platform = devices[0].device_kind, devices[0].platform
    if platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        local = jax.local_device_count()
        simulated = f", as {local} simulated devices" if local > 1 else ""
        return f"CPU, {cores} core{'' if cores == 1 else 's'}{simulated}{hosts}"
    return f"{len(devices)} x {kind} ({platform}){hosts}"
