"""Lengths of time: in steps, in epochs or as a fraction of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from vitjax.core.errors import ConfigError
from vitjax.core.validation import Bounds, Fraction, check_value

UNITS = ("steps", "epochs", "fraction")
# The largest number of steps: an int32 counts them.
MOST_STEPS = 2**31 - 1

Number = Annotated[float, Bounds(at_least=0, at_most=MOST_STEPS)]
# A length within a run may be longer than any run: what comes after it never happens.
_Within = Annotated[float, Bounds(at_least=0)]
# By unit, and whether the length is a list.
_ANNOTATIONS: dict[tuple[str, bool], Any] = {
    ("fraction", False): Fraction,
    ("fraction", True): Sequence[Fraction],
    **dict.fromkeys((("steps", False), ("epochs", False)), _Within),
    **dict.fromkeys((("steps", True), ("epochs", True)), Sequence[_Within]),
}


def spellings(names: Iterable[str]) -> list[str]:
    """The config keys of the lengths ``names``: ``warmup_steps``, ``warmup_epochs`` and so on."""
    return [f"{name}_{unit}" for name in names for unit in UNITS]


def check(
    section: Mapping[str, Any], names: Iterable[str], *, where: str, lists: Iterable[str] = ()
) -> None:
    """Checks lengths as far as that is possible without the run.

    Args:
        section: keys and values as a config has them.
        names: which names are lengths.
        where: the name of the section, for errors.
        lists: which of the names are lists of lengths.

    Raises:
        ConfigError: a length is given in two units, without a unit, or is not a number that a run
            can have.
    """
    for name in names:
        if name in section:
            raise ConfigError(
                f"{where}.{name}: a length needs a unit:"
                f" {', '.join(repr(key) for key in spellings([name]))}"
            )
        given = [unit for unit in UNITS if section.get(f"{name}_{unit}") is not None]
        if len(given) > 1:
            raise ConfigError(
                f"{where}: give exactly one of"
                f" {' and '.join(repr(f'{name}_{unit}') for unit in given)}"
            )
        for unit in given:
            key = f"{name}_{unit}"
            check_value(section[key], _ANNOTATIONS[unit, name in lists], f"{where}.{key}")


def check_run(section: Mapping[str, Any], *, where: str) -> None:
    """Checks the ``steps`` or ``epochs`` of a section.

    Raises:
        ConfigError: neither or both are given, or the value is not a number that a run can have.
    """
    given = [unit for unit in ("steps", "epochs") if section.get(unit) is not None]
    if len(given) != 1:
        raise ConfigError(
            f"{where}: give exactly one of 'steps' and 'epochs' (given:"
            f" {' and '.join(repr(g) for g in given) or 'neither'})"
        )
    unit, value = given[0], section[given[0]]
    check_value(value, Number, f"{where}.{unit}")
    if value == 0 or (unit == "steps" and round(float(value)) < 1):
        raise ConfigError(f"{where}.{unit} is {value}, less than one step")


@dataclasses.dataclass(frozen=True)
class Run:
    """How long a run is.

    Attributes:
        steps: the number of optimizer steps.
        steps_per_epoch: steps in one pass over the training examples, seldom an integer; None for
            data without epochs, such as episodes.
    """

    steps: int
    steps_per_epoch: float | None

    @classmethod
    def of(cls, section: Mapping[str, Any], steps_per_epoch: float | None, *, where: str) -> Run:
        """The run with the ``steps`` or ``epochs`` of a section.

        Raises:
            ConfigError: as of `check_run`, or the run would have no step or too many.
        """
        check_run(section, where=where)
        unit = "steps" if section.get("steps") is not None else "epochs"
        per_unit = _epoch(steps_per_epoch, f"{where}.epochs") if unit == "epochs" else 1
        steps = round(float(section[unit]) * per_unit)
        if not 1 <= steps <= MOST_STEPS:
            limit = "less than one step" if steps < 1 else f"more than {MOST_STEPS} steps"
            raise ConfigError(
                f"{where}.{unit} is {section[unit]}, {limit}"
                + (f" (an epoch has {steps_per_epoch:g})" if steps_per_epoch else "")
            )
        return cls(steps, steps_per_epoch)

    def resolve(
        self,
        section: Mapping[str, Any],
        names: Iterable[str],
        *,
        where: str,
        lists: Iterable[str] = (),
    ) -> dict[str, Any]:
        """``section`` with every length in steps, under its bare name.

        ``{"warmup_epochs": 5}`` becomes ``{"warmup": 450}`` where an epoch has 90 steps. A length
        that is not given is left out; one of more than `MOST_STEPS` becomes that.

        Args:
            section: keys and values as a config has them.
            names: which names are lengths.
            where: the name of the section, for errors.
            lists: which of the names are lists of lengths.

        Raises:
            ConfigError: as of `check`; or a length is in epochs, and the data has none.
        """
        names = tuple(names)
        check(section, names, where=where, lists=lists)
        resolved = dict(section)
        for name in names:
            for unit in UNITS:
                value = resolved.pop(f"{name}_{unit}", None)
                if value is None:
                    continue
                key = f"{where}.{name}_{unit}"
                if name in lists:
                    resolved[name] = [self._steps(item, unit, key) for item in value]
                else:
                    resolved[name] = self._steps(value, unit, key)
        return resolved

    def _steps(self, value: float, unit: str, where: str) -> int:
        if unit == "epochs":
            per_unit = _epoch(self.steps_per_epoch, where)
        else:
            per_unit = {"steps": 1, "fraction": self.steps}[unit]
        return round(min(float(value) * per_unit, MOST_STEPS))


def _epoch(steps_per_epoch: float | None, where: str) -> float:
    if steps_per_epoch is None:
        raise ConfigError(f"{where}: episodes have no epochs; give the length in steps")
    return steps_per_epoch
