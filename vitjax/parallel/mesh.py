"""``jit`` over a named device mesh."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveInt
from vitjax.models import registry
from vitjax.models.protocol import Model
from vitjax.parallel import rules as placement
from vitjax.parallel.base import MODES, Parallel
from vitjax.parallel.rules import AXES, BATCH, MODEL, Rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshAxes:
    """The sizes of a mesh's axes.

    Attributes:
        data: parts of a batch that hold the same part of the state; None for the devices that the
            other axes leave.
        fsdp: parts of a batch that hold a part of the state each.
        model: parts of each layer.
    """

    data: PositiveInt | None = None
    fsdp: PositiveInt = 1
    model: PositiveInt = 1


@MODES.register("jit")
class MeshJit(Parallel):
    """One program over a named mesh.

    Batches are split over the axes ``data`` and ``fsdp``, states are placed by rules, and the
    compiler inserts the communication.
    """

    # Why the model cannot be split by its own rules, see `for_model`.
    _obstacle = ""

    def __init__(
        self,
        devices: PositiveInt | None = None,
        mesh: MeshAxes | None = None,
        rules: Rules = "auto",
    ):
        """Creates the mesh.

        Args:
            devices: the number of devices; None for all.
            mesh: the sizes of its axes; None for ``data`` alone.
            rules: how states are placed, see `vitjax.parallel.rules.parse`.

        Raises:
            ConfigError: the mesh does not fit the devices, or a rule is invalid.
        """
        super().__init__(devices)
        self.rules = rules
        self.rule = placement.parse(rules)
        self.mesh = _create_mesh(mesh or MeshAxes(), self.devices)
        self.batch_shards = math.prod(self.mesh.shape[axis] for axis in BATCH)
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(BATCH))

    def for_model(self, model: Model) -> Self:
        """A copy whose rules know how the parameters of ``model`` are split over ``model``."""
        mode = copy.copy(self)
        tensor_parallel, mode._obstacle = model.split_rules(self.mesh.shape[MODEL])
        mode.rule = placement.parse(self.rules, tensor_parallel)
        return mode

    def check(self, state: Any) -> None:
        """Raises ConfigError if a rule fits no or not every array, or an axis splits nothing."""
        placement.check(self.rule, state, self.mesh)
        size = self.mesh.shape[MODEL]
        if size == 1:
            return
        copies = not placement.splits(self.state_sharding(state), MODEL)
        if copies or (self._obstacle and placement.asks_model(self.rule)):
            what = "nothing is split over it" if copies else "rule 'auto' splits nothing over it"
            raise ConfigError(
                f"config.parallel.mesh.model is {size}, but {what}, so its devices would all"
                " compute the same:"
                f" {self._obstacle or 'config.parallel.rules are not those of the model'}"
                " (rules='auto' takes the model's; models that have them:"
                f" {', '.join(registry.tensor_parallel())}, and those with one of these as encoder)"
            )

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
        """Global arrays, split along their first dimension."""

        def place(rows: np.ndarray) -> jax.Array:
            shape = (len(rows) * jax.process_count(), *np.shape(rows)[1:])
            return jax.make_array_from_process_local_data(self.split, rows, shape)

        return jax.tree.map(place, dict(batch))

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


def _create_mesh(axes: MeshAxes, devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of ``devices`` with all `AXES`."""
    left = max(1, len(devices) // (axes.fsdp * axes.model))
    shape = (axes.data or left, axes.fsdp, axes.model)
    named = dict(zip(AXES, shape, strict=True))
    if math.prod(shape) != len(devices):
        raise ConfigError(
            f"config.parallel.mesh is {named}, a mesh of {math.prod(shape)} devices, but the run"
            f" has {len(devices)} (config.parallel.devices sets their number; without a size,"
            " 'data' takes what the other axes leave)"
        )
    if (shards := math.prod(named[axis] for axis in BATCH)) % jax.process_count():
        raise ConfigError(
            f"config.parallel.mesh is {named}: a batch has {shards} parts, 'data' times 'fsdp';"
            f" must be a multiple of the {jax.process_count()} hosts, which each load their part"
        )
    # Auto, on purpose: with Explicit axes the type of every array would carry its sharding.
    types = (AxisType.Auto,) * len(AXES)
    return Mesh(arranged(shape, devices), AXES, axis_types=types)


def arranged(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    """An array of ``devices`` in which each host has consecutive parts of a batch, in host order.

    This is JAX's arrangement, by the links between the devices, if it does so. In others a host
    would share a part with another one, which loads other examples for it, or the order of the
    examples would not be that of the hosts.

    Args:
        shape: the sizes of `AXES`. The parts of a batch divide evenly into hosts.
        devices: all of them.

    Raises:
        ConfigError: hosts have different numbers of devices.
    """
    by_host = sorted(devices, key=lambda device: (device.process_index, device.id))
    hosts = [device.process_index for device in by_host]
    counts = collections.Counter(hosts)
    if len(set(counts.values())) > 1:
        raise ConfigError(
            "config.parallel: hosts must have equal numbers of devices, but they have "
            + ", ".join(f"{count} (host {host})" for host, count in counts.items())
        )
    try:
        found: np.ndarray = mesh_utils.create_device_mesh(shape, devices)
    except NotImplementedError:  # the links do not form these axes
        return np.reshape(by_host, shape)
    if [device.process_index for device in found.flat] != hosts:
        return np.reshape(by_host, shape)
    return found
