"""Rules that place the arrays of a state on a device mesh.

A rule maps the name and shape of an array to a partition spec: for each dimension, the mesh axis
that it is split over. Placement decides memory and communication, never the numbers.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, check_patterns
from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.core.validation import NonNegativeInt, call
from vitjax.objectives.state import FROZEN

# The mesh axis that batches are split over.
AXIS = "data"

# As a config names it: a name of `RULES`, a section of a ``name`` and its options, or a partition
# spec with a mesh axis, several or None for each dimension.
Placement: TypeAlias = str | Mapping[str, Any] | Sequence[str | Sequence[str] | None]
# One for all arrays, or pairs (pattern, placement).
Rules: TypeAlias = str | Mapping[str, Any] | Sequence[tuple[str, Placement]]

_WHERE = "config.parallel.rules"
_Path: TypeAlias = tuple[str, ...]


class Rule(Protocol):
    """Places one array."""

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The partition spec of the array.

        Args:
            name: see `names`.
            shape: of the complete array.
            mesh: what it is placed on.

        Raises:
            ConfigError: the mesh has no such axis, or the array cannot be split as asked.
        """


RULES: Registry[Callable[..., Rule]] = Registry("placement rule")


@RULES.register("replicate")
@dataclasses.dataclass(frozen=True)
class Replicate:
    """A complete copy on every device."""

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """An empty spec."""
        return PartitionSpec()


@RULES.register("fsdp")
@dataclasses.dataclass(frozen=True)
class FullySharded:
    """Fully sharded data parallelism: each array is split over the axis that splits the batch.

    The largest dimension that the axis divides is split, the last of several. Steps gather the
    parameters that they compute with, see `gather_parameters`, and the update of each part is
    computed where the part is: Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054, Sec. 5.

    Attributes:
        axis: the mesh axis.
        min_size: arrays with fewer elements are replicated.
    """

    axis: str = AXIS
    min_size: NonNegativeInt = 2**12

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The spec with one dimension split, or an empty one."""
        parts = _parts((self.axis,), mesh)
        dimensions = [d for d, size in enumerate(shape) if size % parts == 0]
        if parts == 1 or not dimensions or math.prod(shape) < self.min_size:
            return PartitionSpec()
        largest = max(dimensions, key=lambda d: (shape[d], d))
        return PartitionSpec(*[None] * largest, self.axis)


@dataclasses.dataclass(frozen=True)
class Split:
    """A given partition spec, such as ``(None, "model")`` for tensor parallelism.

    Attributes:
        spec: for each dimension a mesh axis, several, or None; later dimensions are not split.
    """

    spec: tuple[str | tuple[str, ...] | None, ...]

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The spec, after a check that it fits the array."""
        if len(self.spec) > len(shape):
            raise ConfigError(
                f"{_WHERE}: the spec {self.spec} has {len(self.spec)} dimensions, but {name} has"
                f" shape {shape}"
            )
        for dimension, entry in enumerate(self.spec):
            axes = (entry,) if isinstance(entry, str) else entry or ()
            if shape[dimension] % (parts := _parts(axes, mesh)):
                raise ConfigError(
                    f"{_WHERE}: the spec {self.spec} splits dimension {dimension} of {name} with"
                    f" shape {shape} into {parts} parts, which do not divide {shape[dimension]}"
                )
        return PartitionSpec(*self.spec)


@dataclasses.dataclass(frozen=True)
class ByPattern:
    """The rule of the first pattern that is found in a name; arrays without one are replicated.

    Attributes:
        rules: pairs of a regular expression and a rule.
    """

    rules: tuple[tuple[str, Rule], ...]

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The spec that the first matching rule gives."""
        found = (rule for pattern, rule in self.rules if re.search(pattern, name))
        return next(found, Replicate())(name, shape, mesh)


def parse(rules: Rules) -> Rule:
    """The rule that ``config.parallel.rules`` describes.

    Raises:
        ConfigError: an unknown name or key, or an invalid pattern.
    """
    if isinstance(rules, str | Mapping):
        return _named(rules)
    check_expressions([pattern for pattern, _ in rules], _WHERE)
    return ByPattern(tuple((pattern, _placement(placement)) for pattern, placement in rules))


def check(rule: Rule, state: Any, mesh: Mesh) -> None:
    """Raises ConfigError if ``rule`` has a pattern without a match, or cannot place ``state``."""
    if isinstance(rule, ByPattern):
        check_patterns([pattern for pattern, _ in rule.rules], names(state), _WHERE, "array")
    shardings(rule, state, mesh)


def shardings(rule: Rule, state: Any, mesh: Mesh) -> Any:
    """A pytree like ``state`` of the sharding of each array.

    Args:
        rule: places each array.
        state: a pytree of arrays or of their shapes.
        mesh: what they are placed on.
    """
    leaves, structure = jax.tree.flatten(state)
    specs = (
        rule(name, np.shape(leaf), mesh) for name, leaf in zip(names(state), leaves, strict=True)
    )
    return jax.tree.unflatten(structure, [NamedSharding(mesh, spec) for spec in specs])


def gather_parameters(rule: Rule, state: Any, mesh: Mesh) -> Any:
    """``state`` inside a step, its parameters complete over the axis that splits the batch.

    Without the constraint the compiler may split activations as the parameters are, and exchange
    those. The moving average stays as it is: a step updates it and computes nothing with it.
    """

    def gather(path: Any, leaf: Any, sharding: NamedSharding) -> Any:
        spec = PartitionSpec(*map(_without_batch, sharding.spec))
        keys = _keys(path)
        if spec == sharding.spec or _parameter(keys) is None or keys[0] == "ema":
            return leaf
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(gather, state, shardings(rule, state, mesh))


def names(state: Any) -> list[str]:
    """The name by which a rule knows each leaf of ``state``, in the order of `jax.tree.leaves`.

    A parameter is known by its path below ``params``, such as ``encoder/block_0/mlp/kernel``, and
    so are copies of it: an optimizer's moments and a moving average are placed as the parameter is.
    A frozen parameter is known by its path below ``frozen``.
    Any other array is known by its complete path, such as ``model_state/batch_stats/norm/mean``.
    """
    paths = [
        (_keys(path), np.shape(leaf))
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]
    parameters = {found: shape for path, shape in paths if (found := _parameter(path))}

    def name(path: _Path, shape: tuple[int, ...]) -> _Path:
        copied = (each for each in _endings(path) if parameters.get(each) == shape)
        return _parameter(path) or next(copied, path)

    return ["/".join(name(path, shape)) for path, shape in paths]


def _keys(path: Any) -> _Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _without_batch(entry: str | tuple[str, ...] | None) -> tuple[str, ...] | str | None:
    """One dimension's entry of a spec without the axis that splits the batch."""
    if isinstance(entry, tuple):
        return tuple(axis for axis in entry if axis != AXIS)
    return None if entry == AXIS else entry


def _endings(path: _Path) -> Iterator[_Path]:
    """The names of the parameters that an array at ``path`` may be a copy of."""
    for start in range(len(path)):
        yield path[start:]
        # The optimizer of a group has the group's name before its own fields.
        yield from ((group, *path[start:]) for group in path[:start])


def _parameter(path: _Path) -> _Path | None:
    """The name of a trained or frozen parameter, or None for another array."""
    if "params" in path:
        return path[len(path) - path[::-1].index("params") :]
    # A collection of variables, or of the state.
    for collection in ((FROZEN,), ("model_state", FROZEN)):
        if path[: len(collection)] == collection:
            return path[len(collection) :]
    return None


def _named(rule: str | Mapping[str, Any]) -> Rule:
    section = {"name": rule} if isinstance(rule, str) else rule
    constructor, options = RULES.from_section(section, _WHERE)
    found: Rule = call(constructor, options, where=_WHERE)
    return found


def _placement(placement: Placement) -> Rule:
    if isinstance(placement, str | Mapping):
        return _named(placement)
    return Split(tuple(e if e is None or isinstance(e, str) else tuple(e) for e in placement))


def _parts(axes: Sequence[str], mesh: Mesh) -> int:
    """Into how many parts a dimension over ``axes`` is split."""
    for axis in axes:
        if axis not in mesh.shape:
            raise ConfigError(
                f"{_WHERE}: the mesh has no axis {axis!r}{near_match(axis, mesh.shape)}"
                f" (axes: {', '.join(mesh.shape)}; config.parallel.mesh adds one)"
            )
    return math.prod(mesh.shape[axis] for axis in axes)
