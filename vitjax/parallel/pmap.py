"""``pmap``: one program per device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from vitjax.core.errors import ConfigError
from vitjax.parallel.base import AXIS, MODES, Parallel


@MODES.register("pmap")
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
