"""``jit`` over a named device mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vitjax.parallel.base import AXIS, MODES, Parallel


@MODES.register("jit")
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
