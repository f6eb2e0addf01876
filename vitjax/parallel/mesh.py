"""``jit`` over a named device mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt
from vitjax.parallel import rules as placement
from vitjax.parallel.base import MODES, Parallel
from vitjax.parallel.rules import AXIS, Rules


@MODES.register("jit")
class MeshJit(Parallel):
    """One program over a named mesh.

    Batches are split over the axis ``data``, states are placed by rules, and the compiler inserts
    the communication.
    """

    def __init__(
        self,
        devices: PositiveInt | None = None,
        mesh: Mapping[str, PositiveInt] | None = None,
        rules: Rules = "replicate",
    ):
        """Creates the mesh.

        Args:
            devices: the number of devices; None for all.
            mesh: axis names and sizes. ``data`` is always the first axis; without a size it takes
                the devices that the other axes leave.
            rules: how states are placed, see `vitjax.parallel.rules.parse`.

        Raises:
            ConfigError: the mesh does not fit the devices, or a rule is invalid.
        """
        super().__init__(devices)
        self.rule = placement.parse(rules)
        self.mesh = _create_mesh(mesh or {}, self.devices)
        self.batch_shards = self.mesh.shape[AXIS]
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def check(self, state: Any) -> None:
        """Raises ConfigError if a rule matches nothing or cannot place an array of ``state``."""
        placement.check(self.rule, state, self.mesh)

    def state_sharding(self, state: Any) -> Any:
        """The sharding of each array by the rules."""
        return placement.shardings(self.rule, state, self.mesh)

    def place_state(self, state: Any) -> Any:
        """``state`` placed by the rules."""
        return jax.device_put(state, self.state_sharding(state))

    def replicate(self, tree: Any) -> Any:
        """``tree`` with a complete copy on each device."""
        return jax.device_put(tree, self.replicated)

    def fetch(self, tree: Any) -> Any:
        """``tree`` itself: global arrays have no device axis."""
        return tree

    def to_host(self, tree: Any) -> Any:
        """Complete NumPy arrays."""
        if jax.process_count() > 1:
            tree = jax.jit(lambda x: x, out_shardings=self.replicated)(tree)
        return jax.device_get(tree)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Global arrays, split along their first axis."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.split, x), dict(batch)
        )

    def compile(
        self,
        step: Callable[..., Any],
        *,
        state: Any = None,
        donate: bool = False,
        split: bool = False,
    ) -> Callable[..., Any]:
        """``jit`` with the state as it is placed and a split batch."""
        placed: Any = None
        results: Any = self.split if split else self.replicated
        if state is not None:
            placed = self.state_sharding(state)
            results = (placed, results)

        @functools.wraps(step)
        def gathered_step(state: Any, batch: Any) -> Any:
            return step(placement.gather_parameters(self.rule, state, self.mesh), batch)

        return jax.jit(
            gathered_step,
            in_shardings=(placed, self.split),
            out_shardings=results,
            donate_argnums=(0,) if donate else (),
        )


def _create_mesh(axes: Mapping[str, int], devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of ``devices`` with the axis ``data`` first."""
    others = {axis: size for axis, size in axes.items() if axis != AXIS}
    data = axes.get(AXIS) or max(1, len(devices) // math.prod(others.values()))
    shape = {AXIS: data, **others}
    if math.prod(shape.values()) != len(devices):
        raise ConfigError(
            f"config.parallel.mesh is {dict(axes)}, a mesh of {math.prod(shape.values())} devices,"
            f" but the run has {len(devices)} (config.parallel.devices sets their number; without a"
            f" size, {AXIS!r} takes what the other axes leave)"
        )
    if data % jax.process_count():
        raise ConfigError(
            f"config.parallel.mesh: the size of {AXIS!r} is {data}; must be a multiple of the"
            f" {jax.process_count()} hosts, which each load their part of a batch"
        )
    # Auto, on purpose: with Explicit axes the type of every array would carry its sharding.
    return jax.make_mesh(
        tuple(shape.values()),
        tuple(shape),
        axis_types=(AxisType.Auto,) * len(shape),
        devices=devices,
    )
