"""Constraints on values, written as ``Annotated[type, constraint]``."""

from __future__ import annotations

import abc
import dataclasses
import math
import numbers
from collections.abc import Collection, Sequence
from typing import Annotated, Any

from vitjax.core.machine import process_cores


class Constraint(abc.ABC):
    """A condition on a value of the right type."""

    options: Collection[str] = ()  # among which an error looks for the near match

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """The constraint, as it follows "must be" in an error."""

    def words_for(self, value: Any) -> str:
        """What ``value``, which the constraint does not allow, must be."""
        del value
        return self.words

    @abc.abstractmethod
    def allows(self, value: Any) -> bool:
        """Whether ``value``, which is of the annotated type, satisfies the constraint."""


@dataclasses.dataclass(frozen=True)
class Bounds(Constraint):
    """A finite number within bounds.

    Attributes:
        at_least: the smallest value.
        at_most: the largest value.
        above: a value that all values are larger than.
        below: a value that all values are smaller than.
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def words(self) -> str:
        """For example "at least 1", "above 0" or "in [0, 1)"."""
        lower = {"at least": self.at_least, "above": self.above}
        upper = {"at most": self.at_most, "below": self.below}
        parts = [[(w, v) for w, v in side.items() if v is not None] for side in (lower, upper)]
        if all(parts):
            (low, start), (high, end) = parts[0][0], parts[1][0]
            left, right = "[" if low == "at least" else "(", "]" if high == "at most" else ")"
            return f"in {left}{start}, {end}{right}"
        return " and ".join(f"{word} {value}" for side in parts for word, value in side)

    def words_for(self, value: Any) -> str:
        """The bounds, or that the number must be finite."""
        return range_problem(value) or self.words

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is finite and within the bounds."""
        return (
            not range_problem(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


@dataclasses.dataclass(frozen=True)
class Length(Constraint):
    """A list with a number of items.

    Attributes:
        at_least: the smallest number.
        at_most: the largest number; None for any.
    """

    at_least: int = 1
    at_most: int | None = None

    @property
    def words(self) -> str:
        """For example "with at least 1 item" or "with 2 items"."""
        exact = self.at_least == self.at_most
        number = self.at_least if exact or self.at_most is None else f"{self.at_least} to"
        more = f" {self.at_most}" if self.at_most is not None and not exact else ""
        items = "item" if (self.at_most or self.at_least) == 1 else "items"
        return f"with {'at least ' if self.at_most is None else ''}{number}{more} {items}"

    def allows(self, value: Any) -> bool:
        """Whether the number of items is one of those."""
        return self.at_least <= len(value) <= (self.at_most or len(value))


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf(Constraint):
    """One of names that are known when the value is checked, such as those of a registry.

    Attributes:
        options: the names.
    """

    options: Collection[str]

    @property
    def words(self) -> str:
        """All names."""
        return alternatives([repr(option) for option in self.options])

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is one of the names."""
        return value in self.options


# The largest int64, and the largest float32, which is what networks and optimizers compute in.
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = 3.4028234663852886e38


def range_problem(value: Any) -> str:
    """What ``value``, a number, must be to be computed with; empty if it can be.

    A plain ``int`` or ``float`` in an annotation stands for a finite number within these bounds.
    """
    if isinstance(value, numbers.Integral):
        if not -_LARGEST_INT <= int(value) <= _LARGEST_INT:
            return f"between -{_LARGEST_INT} and {_LARGEST_INT}"
    elif not math.isfinite(value):
        return "finite"
    elif abs(value) > _LARGEST_FLOAT and not _computes_in_float64():
        return f"at most {_LARGEST_FLOAT:.2g} in magnitude, the largest float32"
    return ""


def _computes_in_float64() -> bool:
    import jax  # here, since most values are small, and most programs that check them are quick

    return jax.dtypes.canonicalize_dtype("float64") == "float64"


@dataclasses.dataclass(frozen=True)
class Infinite(Constraint):
    """A number of any size, infinity included, but not NaN."""

    words = "or infinity"

    def words_for(self, value: Any) -> str:
        """A number that can be compared."""
        del value
        return f"a number {self.words}"

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is not NaN."""
        return not math.isnan(value)


# For numbers that are compared, such as limits that infinity switches off.
FloatOrInfinity = Annotated[float, Infinite()]


@dataclasses.dataclass(frozen=True)
class PerCore(Constraint):
    """At most a number for each core that this process may use.

    Attributes:
        number: for each core.
        always: what is allowed on any machine.
    """

    number: int
    always: int

    @property
    def words(self) -> str:
        """The largest number on this machine."""
        return f"and at most {self._most()} on this machine"

    def words_for(self, value: Any) -> str:
        """The largest number on this machine, and why."""
        return (
            f"at most {self._most()} on this machine: {self.number} for each core that the process"
            f" may use ({process_cores()}), and {self.always} in any case"
        )

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is at most the number for this machine."""
        return bool(value <= self._most())

    def _most(self) -> int:
        return max(self.always, self.number * process_cores())


PositiveInt = Annotated[int, Bounds(at_least=1)]
NonNegativeInt = Annotated[int, Bounds(at_least=0)]
PositiveFloat = Annotated[float, Bounds(above=0)]
NonNegativeFloat = Annotated[float, Bounds(at_least=0)]
Fraction = Annotated[float, Bounds(at_least=0, at_most=1)]
Rate = Annotated[float, Bounds(at_least=0, below=1)]

# Sizes and repetitions in a config. What is above these bounds never ends or fits into no memory.
Steps = Annotated[int, Bounds(at_least=1, at_most=2**31 - 1)]  # an int32 counts them
BatchSize = Annotated[int, Bounds(at_least=1, at_most=2**31 - 1)]
Side = Annotated[int, Bounds(at_least=1, at_most=2**14)]  # of an image, in pixels
Examples = Annotated[int, Bounds(at_least=1, at_most=10**9)]  # made up, or of a split
Workers = Annotated[int, Bounds(at_least=0, at_most=512), PerCore(16, 32)]  # processes
Episodes = Annotated[int, Bounds(at_least=1, at_most=10**6)]  # fixed ones, of an evaluation
Repetitions = Annotated[int, Bounds(at_least=1, at_most=10**4)]  # of a loop within a step


def alternatives(words: Sequence[str]) -> str:
    """``words`` as a choice: ``"a, b or c"``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"
