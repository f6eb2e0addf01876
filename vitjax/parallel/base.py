"""The interface of a parallel mode: where arrays live and how a step is compiled."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.models.protocol import Model


class Parallel(abc.ABC):
    """Spreads batches and states over devices.

    Attributes:
        devices: all devices of the run, over all hosts.
        batch_shards: the number of parts that a batch is split into.
        axis_name: the mapped axis that steps sum over; None where the compiler inserts the sums.
    """

    devices: list[jax.Device]
    batch_shards: int
    axis_name: str | None = None

    def __init__(self, devices: int | None = None):
        available = jax.devices()
        if devices is not None and devices > len(available):
            raise ConfigError(
                f"config.parallel.devices is {devices}; there are {len(available)} devices"
            )
        if devices not in (None, len(available)) and jax.process_count() > 1:
            raise ConfigError("config.parallel.devices: several hosts must use all devices")
        self.devices = available[:devices]

    def for_model(self, model: Model) -> Self:
        """The mode for states of ``model``, by whose facts it may place them."""
        del model
        return self

    @abc.abstractmethod
    def check(self, state: Any) -> None:
        """Raises ConfigError if the mode cannot place ``state``, a pytree of arrays or shapes."""

    @abc.abstractmethod
    def state_sharding(self, state: Any) -> Any:
        """The sharding of each array of a state as `fetch` returns it and checkpoints hold it.

        Args:
            state: a pytree of arrays or shapes, without a device axis.
        """

    @abc.abstractmethod
    def place_state(self, state: Any) -> Any:
        """``state`` on the devices, as compiled steps take it."""

    @abc.abstractmethod
    def replicate(self, tree: Any) -> Any:
        """``tree`` on the devices, with a complete copy on each."""

    @abc.abstractmethod
    def fetch(self, tree: Any) -> Any:
        """A placed state, or results of a compiled step, without a device axis.

        The arrays remain on the devices, with the sharding of `state_sharding`.
        """

    @abc.abstractmethod
    def to_host(self, tree: Any) -> Any:
        """A placed state or results as complete NumPy arrays; all hosts must call it together."""

    @abc.abstractmethod
    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """This host's part of a global batch, split over its devices."""

    @abc.abstractmethod
    def compile(
        self,
        step: Callable[..., Any],
        *,
        state: Any = None,
        donate: bool = False,
        split: bool = False,
    ) -> Callable[..., Any]:
        """Compiles ``step(state, batch)`` for placed arguments.

        Args:
            step: a pure function.
            state: for a step that returns ``(new state, metrics)``: the state, or its shapes. The
                new state is placed as the old one. None for a step that only reads its state.
            donate: reuse the memory of the state for the results.
            split: the result is a batch, split as the argument is. Otherwise each device holds the
                complete result.
        """

    def round_up(self, batch_size: int) -> int:
        """The smallest batch size from ``batch_size`` on that splits evenly."""
        return -(-batch_size // self.batch_shards) * self.batch_shards


MODES: Registry[Callable[..., Parallel]] = Registry("parallel mode")


def create(*, mode: str = "jit", **arguments: Any) -> Parallel:
    """Creates the mode of a config's ``parallel`` section.

    Raises:
        ConfigError: an unknown mode or key, or a mesh that does not fit the devices.
    """
    return MODES.create(mode, where="config.parallel", **arguments)
