"""What a parallel mode offers: where arrays live and how a step is compiled."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry

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
        available = jax.devices()
        if devices is not None and not 1 <= devices <= len(available):
            raise ConfigError(
                f"config.parallel.devices is {devices}; there are {len(available)} devices"
            )
        if devices not in (None, len(available)) and jax.process_count() > 1:
            raise ConfigError("config.parallel.devices: on several hosts all devices are used")
        self.devices = available[:devices]

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


MODES: Registry[Callable[..., Parallel]] = Registry("parallel mode")


def create(*, mode: str = "jit", **arguments: Any) -> Parallel:
    """The way that a config's ``parallel`` section asks for.

    Raises:
        ConfigError: an unknown mode or key, or more devices than there are.
    """
    return MODES.create(mode, where="config.parallel", **arguments)
