"""The interface of a metric, and the way from the metrics of many batches to numbers."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# A reported value: a number, or an array such as one value per class.
Value = float | np.ndarray
Self = TypeVar("Self", bound="Metric")


class Declaration(NamedTuple):
    """The direction and the unit of a reported value.

    Attributes:
        higher_is_better: whether a larger value is better; None if neither direction is.
        unit: ``"fraction"`` (printed as a percentage), ``"nats"``, ``"pixels"``, ...; ``""`` for
            a plain number.
        shape: the shape of an array; ``()`` for a number.
        per_class: whether each axis of the array is the classes.
    """

    higher_is_better: bool | None
    unit: str = ""
    shape: tuple[int, ...] = ()
    per_class: bool = False

    @property
    def sign(self) -> int:
        """1 if a larger value is better, else -1."""
        return 1 if self.higher_is_better else -1

    def text(self, value: float) -> str:
        """``value`` in its unit: ``"98.33%"``, ``"0.0712"``."""
        return f"{value:.2%}" if self.unit == "fraction" else f"{value:.4f}"


class Metric(abc.ABC):
    """The value of a metric over some examples, in a form that merges exactly.

    A metric is a pytree that an objective computes from a batch inside the compiled step. It holds
    what can be merged, such as a sum and a count, so the result does not depend on how examples are
    divided into batches, devices and hosts, and padded examples do not count. Direction and unit
    are static: they are known from tracing a step, without running it.
    """

    @abc.abstractmethod
    def merge(self: Self, *others: Self) -> Self:
        """The metric over the examples of all of them, on the host, from fetched arrays."""

    @abc.abstractmethod
    def over_axis(self: Self, axis_name: str) -> Self:
        """The metric over all devices of a mapped axis, inside the step (``pmap``)."""

    @abc.abstractmethod
    def over_micro_batches(self: Self) -> Self:
        """The metric over all micro-batches of a step, inside the step.

        All arrays of ``self`` have a leading axis of micro-batches, which the result does not have.
        """

    @abc.abstractmethod
    def compute(self) -> Any:
        """The value, on the host; NaN if no example counts."""

    @property
    def grows(self) -> bool:
        """Whether its arrays grow with the examples, so that `reduce` follows each batch."""
        return False

    def reduce(self: Self) -> Self:
        """A smaller form of one batch's metric, on the host, that merges to the same value."""
        return self

    def values(self, name: str) -> dict[str, Value]:
        """The reported values, by ``name`` and names that begin with it."""
        return {name: self.compute()}

    @abc.abstractmethod
    def declarations(self, name: str) -> dict[str, Declaration]:
        """The declaration of each name in `values`."""


class Sums(Metric):
    """A metric whose arrays are sums over examples.

    Attributes:
        higher_is_better: see `Declaration`.
        unit: see `Declaration`.
    """

    higher_is_better: bool | None
    unit: str

    def merge(self: Self, *others: Self) -> Self:
        """Adds the sums, in float64, which is exact enough for many batches."""
        added: Self = jax.tree.map(
            lambda *sums: np.sum(np.asarray(sums, np.float64), axis=0), self, *others
        )
        return added

    def over_axis(self: Self, axis_name: str) -> Self:
        """Adds the sums over the devices."""
        added: Self = jax.lax.psum(self, axis_name)
        return added

    def over_micro_batches(self: Self) -> Self:
        """Adds the sums over the micro-batches, in their order."""
        added: Self = jax.tree.map(
            lambda sums: jax.lax.scan(
                lambda total, each: (total + each, None), jnp.zeros_like(sums[0]), sums
            )[0],
            self,
        )
        return added

    def declarations(self, name: str) -> dict[str, Declaration]:
        """The direction and the unit of the metric."""
        return {name: Declaration(self.higher_is_better, self.unit)}


# Each name to its `Metric`, of any kind.
Metrics = dict[str, Any]


def merge(batches: Sequence[Mapping[str, Any]]) -> Metrics:
    """The metrics over the examples of all batches; ``{}`` for no batch."""
    if not batches:
        return {}
    first, *rest = batches
    return {name: metric.merge(*(batch[name] for batch in rest)) for name, metric in first.items()}


def values(metrics: Mapping[str, Metric]) -> dict[str, Value]:
    """The reported values of all metrics, numbers first, then arrays."""
    found = {k: v for name, metric in metrics.items() for k, v in metric.values(name).items()}
    numbers = {name: value for name, value in found.items() if not isinstance(value, np.ndarray)}
    return {**numbers, **found}


def entries(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among ``values``, and those of each list: entry i of ``name`` is ``name/i``."""
    found = {}
    for name, value in values.items():
        if isinstance(value, float | int):
            found[name] = value
        elif value and isinstance(value[0], float | int):
            found |= {f"{name}/{index}": each for index, each in enumerate(value)}
    return found


def numbers(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """The entries of `values` that are single numbers."""
    return {name: value for name, value in values(metrics).items() if isinstance(value, float)}


def declarations(metrics: Mapping[str, Metric]) -> dict[str, Declaration]:
    """The declaration of everything that `values` reports.

    Args:
        metrics: computed, or traced by `jax.eval_shape`.
    """
    found: dict[str, Declaration] = {}
    for name, metric in metrics.items():
        found |= metric.declarations(name)
    if "loss" in found:
        # Training minimises it, so its direction is known.
        found["loss"] = found["loss"]._replace(higher_is_better=False)
    return found


def over_axis(metrics: Metrics, axis_name: str | None) -> Metrics:
    """``metrics`` over all devices of a mapped axis; unchanged without an axis."""
    if axis_name is None:
        return metrics
    return {name: metric.over_axis(axis_name) for name, metric in metrics.items()}
