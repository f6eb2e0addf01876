"""Rules that place the arrays of a state on a device mesh.

A rule maps the name and shape of an array to a partition spec: for each dimension, the mesh axis
that it is split over. Placement decides memory and communication, never the numbers.

A mesh has three axes. Batches are split over ``data`` and ``fsdp``, states over ``fsdp`` (fully
sharded data parallelism), and layers over ``model`` (tensor parallelism).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitjax.core.errors import ConfigError
from vitjax.core.names import check_expressions, check_patterns
from vitjax.core.registry import Registry
from vitjax.core.text import near_match
from vitjax.core.validation import NonNegativeInt, call, keywords_of
from vitjax.models.protocol import SplitRules
from vitjax.objectives.state import FROZEN, TrainState

# The axes of a mesh, from the outermost. Model is the innermost: it communicates the most.
DATA, FSDP, MODEL = AXES = ("data", "fsdp", "model")
# The axes that batches are split over.
BATCH = (DATA, FSDP)

# As a config names it: a name of `RULES`, a section of a ``name`` and its options, or a partition
# spec with a mesh axis, several or None for each dimension.
Placement: TypeAlias = str | Mapping[str, Any] | Sequence[str | Sequence[str] | None]
# One for all arrays, or pairs (pattern, placement).
Rules: TypeAlias = str | Mapping[str, Any] | Sequence[tuple[str, Placement]]

_WHERE = "config.parallel.rules"
_Path: TypeAlias = tuple[str, ...]
# With which the complete path of an array begins.
_FIELDS = frozenset(field.name for field in dataclasses.fields(TrainState))


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
    """Fully sharded data parallelism, within the tensor parallelism that the model declares.

    Of each array, the largest dimension that the axis divides is split, the last of several. Steps
    gather the parameters that they compute with, see `gather_parameters`, and the update of each
    part is computed where the part is: Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054, Sec. 5.

    On a mesh with an axis ``model``, the arrays that the model's rules name are first split over
    it, in the dimension that those say.

    Attributes:
        axis: the mesh axis; None for ``fsdp``, or ``data`` on a mesh whose ``fsdp`` is 1.
        min_size: arrays with fewer elements are not split over it.
        tensor_parallel: the rules of the model, see `vitjax.models.Model.tensor_parallel`.
    """

    axis: Literal["data", "fsdp"] | None = None
    min_size: NonNegativeInt = 2**12
    tensor_parallel: SplitRules = ()

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The spec with one dimension split over each axis, or an empty one."""
        spec: list[str | None] = [None] * len(shape)
        dimension = self._model_dimension(name, shape, mesh)
        if dimension is not None:
            spec[dimension] = MODEL
        axis = self.axis or (FSDP if mesh.shape[FSDP] > 1 else DATA)
        parts = _parts((axis,), mesh)
        free = [d for d, size in enumerate(shape) if spec[d] is None and size % parts == 0]
        if parts > 1 and free and math.prod(shape) >= self.min_size:
            spec[max(free, key=lambda d: (shape[d], d))] = axis
        while spec and spec[-1] is None:
            spec.pop()
        return PartitionSpec(*spec)

    def _model_dimension(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> int | None:
        """The dimension of an array that is split over the axis ``model``, if one is."""
        parts = mesh.shape[MODEL]
        # Arrays in shapes of their own, not those of parameters, are known by their complete path.
        if parts == 1 or name.partition("/")[0] in _FIELDS:
            return None
        rules = (d for pattern, d in self.tensor_parallel if re.search(pattern, name))
        if (dimension := next(rules, None)) is None:
            return None
        if shape[dimension] % parts:
            raise ConfigError(
                f"config.parallel.mesh: the size of {MODEL!r} is {parts}, which does not divide"
                f" {shape[dimension]}, the dimension of {name} with shape {shape} that it splits"
            )
        return len(shape) + dimension


@RULES.register("auto")
@dataclasses.dataclass(frozen=True)
class Auto(FullySharded):
    """The mesh says what is split: states over ``fsdp`` alone, layers over ``model``."""

    axis: Literal["data", "fsdp"] | None = "fsdp"


@dataclasses.dataclass(frozen=True)
class Split:
    """A given partition spec, such as ``(None, "model")`` for tensor parallelism.

    Attributes:
        spec: for each dimension a mesh axis, several, or None; later dimensions are not split.
    """

    spec: tuple[str | tuple[str, ...] | None, ...]

    def __post_init__(self) -> None:
        axes = [axis for entry in self.spec for axis in _axes(entry)]
        if twice := sorted({axis for axis in axes if axes.count(axis) > 1}):
            raise ConfigError(
                f"{_WHERE}: the spec {self.spec} has the mesh axis {twice[0]!r} more than once; an"
                " axis can split one dimension of an array"
            )

    def __call__(self, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """The spec, after a check that it fits the array."""
        if len(self.spec) > len(shape):
            raise ConfigError(
                f"{_WHERE}: the spec {self.spec} has {len(self.spec)} dimensions, but {name} has"
                f" shape {shape}"
            )
        for dimension, entry in enumerate(self.spec):
            if shape[dimension] % (parts := _parts(_axes(entry), mesh)):
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


def parse(rules: Rules, tensor_parallel: SplitRules = ()) -> Rule:
    """The rule that ``config.parallel.rules`` describes.

    Args:
        rules: the value of the key.
        tensor_parallel: the model's rules, which a rule receives that has the field.

    Raises:
        ConfigError: an unknown name or key, or an invalid pattern.
    """
    if isinstance(rules, str | Mapping):
        return _named(rules, tensor_parallel)
    check_expressions([pattern for pattern, _ in rules], _WHERE)
    return ByPattern(
        tuple((pattern, _placement(placement, tensor_parallel)) for pattern, placement in rules)
    )


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


def splits(shardings: Any, axis: str) -> bool:
    """Whether one of ``shardings``, a pytree, splits a dimension over ``axis``."""
    entries = (entry for each in jax.tree.leaves(shardings) for entry in each.spec)
    return any(axis in _axes(entry) for entry in entries)


def asks_model(rule: Rule) -> bool:
    """Whether ``rule``, or a part of it, leaves it to the model how its layers are split."""
    parts = [part for _, part in rule.rules] if isinstance(rule, ByPattern) else [rule]
    return any(isinstance(part, Auto) for part in parts)


def gather_parameters(rule: Rule, state: Any, mesh: Mesh) -> Any:
    """``state`` inside a step, its parameters complete over the axes that split the batch.

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
    A frozen parameter is known by its path below ``frozen``. What a method learns for each of the
    model's parameters, in another shape, is known by its path from ``params`` on, such as
    ``params/rates/encoder/block_0/mlp/kernel`` beside ``model/encoder/block_0/mlp/kernel``.
    Any other array is known by its complete path, such as ``model_state/batch_stats/norm/mean``.
    """
    paths = [
        (_keys(path), np.shape(leaf))
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]
    parameters = {found: shape for path, shape in paths if (found := _parameter(path))}

    def name(path: _Path, shape: tuple[int, ...]) -> _Path:
        copied = (each for each in _endings(path) if parameters.get(each) == shape)
        found = _parameter(path) or next(copied, path)
        if found[:1] != ("model",) and parameters.get(("model", *found[1:]), shape) != shape:
            return ("params", *found)
        return found

    return ["/".join(name(path, shape)) for path, shape in paths]


def _axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes in one dimension's entry of a spec."""
    return (entry,) if isinstance(entry, str) else entry or ()


def _keys(path: Any) -> _Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _without_batch(entry: str | tuple[str, ...] | None) -> tuple[str, ...] | str | None:
    """One dimension's entry of a spec without the axes that split the batch."""
    if isinstance(entry, tuple):
        return tuple(axis for axis in entry if axis not in BATCH)
    return None if entry in BATCH else entry


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


def _named(rule: str | Mapping[str, Any], tensor_parallel: SplitRules) -> Rule:
    section = {"name": rule} if isinstance(rule, str) else rule
    constructor, options = RULES.from_section(section, _WHERE)
    offered = {"tensor_parallel": tensor_parallel}
    given = {name: offered[name] for name in offered.keys() & keywords_of(constructor)}
    found: Rule = call(constructor, options, where=_WHERE, **given)
    return found


def _placement(placement: Placement, tensor_parallel: SplitRules) -> Rule:
    if isinstance(placement, str | Mapping):
        return _named(placement, tensor_parallel)
    return Split(tuple(e if e is None or isinstance(e, str) else tuple(e) for e in placement))


def _parts(axes: Sequence[str], mesh: Mesh) -> int:
    """Into how many parts a dimension over ``axes`` is split."""
    for axis in axes:
        if axis not in mesh.shape:
            raise ConfigError(
                f"{_WHERE}: the mesh has no axis {axis!r}{near_match(axis, mesh.shape)}"
                f" (axes: {', '.join(mesh.shape)})"
            )
    return math.prod(mesh.shape[axis] for axis in axes)
