"""Metrics of a complete data set: examples are gathered, and the value is computed on the host."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Bool

from vitjax.core.errors import ConfigError
from vitjax.core.registry import Registry
from vitjax.core.validation import keywords_of
from vitjax.metrics.base import Declaration, Metric, Value


class Measure(abc.ABC):
    """How examples are collected, and the value that is computed from all of them.

    A measure is a frozen dataclass of plain values, so that it can be a static part of a compiled
    step. It is registered with the fact ``target``, the kind of data it is for, such as ``"class"``
    (one class per image) or ``"mask"`` (one class per pixel).

    Attributes:
        higher_is_better: see `vitjax.metrics.Declaration`.
        unit: see `vitjax.metrics.Declaration`.
        over_time: whether it reads the logits of each time step of a recurrent network, (time,
            batch, classes), instead of probabilities.
    """

    higher_is_better: ClassVar[bool | None] = None
    unit: ClassVar[str] = ""
    over_time: ClassVar[bool] = False

    @abc.abstractmethod
    def collect(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        """The values of each example that are collected, inside the compiled step.

        Args:
            outputs: what the objective gives to the measures of its target: for ``"class"`` and
                ``"mask"`` the probabilities of the classes, (batch, ..., classes), or see
                `over_time`; any pytree for the target of an objective of your own, such as
                embeddings or boxes.
            batch: the evaluated batch; its ``label`` holds class numbers for ``"class"`` and
                ``"mask"``.

        Returns:
            A pytree of arrays with the leading axis of the batch.
        """

    def reduce(self, examples: Any) -> Any:
        """A smaller form of the examples of one batch, on the host, without padding.

        The default keeps the arrays. A measure that needs only sums returns those, so that memory
        does not grow with the data.
        """
        return examples

    def join(self, parts: Sequence[Any]) -> Any:
        """Joins what `reduce` returned for several batches; the default concatenates arrays."""
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    @abc.abstractmethod
    def compute(self, examples: Any) -> Any:
        """The value over all examples: a number, an array, or a mapping of names to these."""

    def declarations(self, name: str) -> dict[str, Declaration]:
        """The declaration of each reported name; the default is that of a number."""
        return {name: Declaration(self.higher_is_better, self.unit)}


@struct.dataclass
class Collected(Metric):
    """A metric of all examples together, such as a calibration error or mean average precision.

    It is exact over padding, batches, devices and hosts, since the examples are gathered.

    Attributes:
        examples: what ``measure`` collects, with the leading axis of the batch.
        mask: which examples count; None after ``measure`` has reduced them.
        measure: what is collected and computed.
    """

    examples: Any
    mask: Bool[Array, "batch"] | None
    measure: Measure = struct.field(pytree_node=False)

    @property
    def grows(self) -> bool:
        """True: a batch holds what is collected of each of its examples."""
        return True

    def reduce(self) -> Collected:
        """The batch without padding, in the form that the measure keeps."""
        if self.mask is None:
            return self
        counted = np.asarray(self.mask).astype(bool)
        examples = jax.tree.map(lambda array: np.asarray(array)[counted], self.examples)
        return Collected(self.measure.reduce(examples), None, self.measure)

    def merge(self, *others: Collected) -> Collected:
        """Joins the examples."""
        parts = [each.reduce().examples for each in (self, *others)]
        return Collected(self.measure.join(parts), None, self.measure)

    def over_axis(self, axis_name: str) -> Collected:
        """Gathers the examples of all devices; a measure must not depend on their order."""
        gathered: Collected = jax.lax.all_gather(self, axis_name, tiled=True)
        return gathered

    def over_micro_batches(self) -> Collected:
        """Joins the examples of all micro-batches, in order."""
        joined: Collected = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self)
        return joined

    def compute(self) -> Any:
        """The value of the measure over the examples."""
        return self.measure.compute(self.reduce().examples)

    def values(self, name: str) -> dict[str, Value]:
        """The value under ``name``, or several values under their own names."""
        value = self.compute()
        several = value if isinstance(value, Mapping) else {name: value}
        # Numbers of NumPy are neither floats nor JSON values.
        return {
            each: np.asarray(found) if np.ndim(found) else float(found)
            for each, found in several.items()
        }

    def declarations(self, name: str) -> dict[str, Declaration]:
        """The measure's declaration."""
        return self.measure.declarations(name)


MEASURES: Registry[Callable[..., Measure]] = Registry("measure")


def check_measures(names: Sequence[str], where: str = "config.objective.measures") -> None:
    """Raises ConfigError for one of ``names`` that is not a measure.

    Args:
        names: as of `create_measures`.
        where: the key of the names in the config, for errors.
    """
    for name in names:
        MEASURES.lookup(name, where)


def create_measures(
    names: Sequence[str], target: str, *, where: str, **offered: Any
) -> dict[str, Measure]:
    """The measures that a config's ``objective.measures`` names.

    Args:
        names: names of `MEASURES`.
        target: the kind of the objective's data, see `Measure`.
        where: the key of the names in the config, for errors.
        **offered: values that a measure receives if it has a keyword of that name.

    Raises:
        ConfigError: an unknown measure, or one for other data.
    """
    # All names of one constructor make one measure, which shares their work.
    groups: dict[Any, list[str]] = {}
    for name in names:
        groups.setdefault(MEASURES.lookup(name, where), []).append(name)
        if MEASURES.facts(name)["target"] != target:
            fitting = [each for each in MEASURES if MEASURES.facts(each)["target"] == target]
            raise ConfigError(
                f"{where}: {name!r} is for data with one {MEASURES.facts(name)['target']} per"
                f" example; for one {target} per example use: {', '.join(fitting)}"
            )
    made = {}
    for constructor, named in groups.items():
        accepted = keywords_of(constructor)
        given = {key: value for key, value in offered.items() if key in accepted}
        if "names" in accepted:
            given["names"] = tuple(named)
        made[", ".join(named)] = constructor(**given)
    return made
