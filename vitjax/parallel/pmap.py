"""``pmap``: one program per device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt
from vitjax.parallel.base import MODES, Parallel
from vitjax.parallel.rules import DATA, Rules


@MODES.register("pmap")
class Pmap(Parallel):
    """One program per device, with explicit sums over the axis; arrays have a device axis."""

    axis_name = DATA

    def __init__(
        self,
        devices: PositiveInt | None = None,
        mesh: Mapping[str, PositiveInt] | None = None,
        rules: Rules = "auto",
    ):
        super().__init__(devices)
        for key, value in (("mesh", mesh), ("rules", rules)):
            if value not in (None, {}, "auto", "replicate"):
                raise ConfigError(
                    f"config.parallel.{key} is {value!r}, but mode 'pmap' keeps a copy of the state"
                    " on every device; mode 'jit' places it by rules over a mesh"
                )
        if jax.process_count() > 1:
            raise ConfigError("config.parallel.mode: 'pmap' supports one host; use 'jit'")
        self.batch_shards = len(self.devices)
        mesh_of_all = Mesh(np.asarray(self.devices), (DATA,), axis_types=(AxisType.Auto,))
        self.stacked = NamedSharding(mesh_of_all, PartitionSpec(DATA))

    def check(self, state: Any) -> None:
        """Any state fits."""

    def state_sharding(self, state: Any) -> Any:
        """The first device, for every array."""
        return jax.tree.map(lambda _: SingleDeviceSharding(self.devices[0]), state)

    def place_state(self, state: Any) -> Any:
        """``state`` with a leading device axis."""
        return self.replicate(state)

    def replicate(self, tree: Any) -> Any:
        """``tree`` with a leading device axis."""
        copies = len(self.devices)
        return jax.tree.map(
            lambda x: jax.device_put(
                np.broadcast_to(np.asarray(x), (copies, *np.shape(x))), self.stacked
            ),
            tree,
        )

    def fetch(self, tree: Any) -> Any:
        """The copy of the first device."""
        return jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)

    def to_host(self, tree: Any) -> Any:
        """The copy of the first device as NumPy arrays."""
        return jax.device_get(self.fetch(tree))

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """(batch, ...) as (devices, batch / devices, ...)."""
        return jax.tree.map(
            lambda x: jax.device_put(x.reshape(self.batch_shards, -1, *x.shape[1:]), self.stacked),
            dict(batch),
        )

    def compile(
        self,
        step: Callable[..., Any],
        *,
        state: Any = None,
        donate: bool = False,
        split: bool = False,
    ) -> Callable[..., Any]:
        """``pmap`` of the step over the device axis of both arguments; all results have one."""
        return jax.pmap(
            step, axis_name=DATA, devices=self.devices, donate_argnums=(0,) if donate else ()
        )
