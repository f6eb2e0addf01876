"""Lengths of time: in steps, in epochs or as a fraction of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.validation import NonNegativeFloat, check_value

UNITS = ("steps", "epochs", "fraction")


def spellings(names: Iterable[str]) -> list[str]:
    """The config keys of the lengths ``names``: ``warmup_steps``, ``warmup_epochs`` and so on."""
    return [f"{name}_{unit}" for name in names for unit in UNITS]


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
            ConfigError: neither or both are given, or the run would have no step.
        """
        given = [unit for unit in ("steps", "epochs") if section.get(unit) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"{where}: give exactly one of 'steps' and 'epochs' (given:"
                f" {' and '.join(repr(g) for g in given) or 'neither'})"
            )
        per_unit = _epoch(steps_per_epoch, f"{where}.epochs") if given == ["epochs"] else 1
        steps = round(_number(section[given[0]], f"{where}.{given[0]}") * per_unit)
        if steps < 1:
            raise ConfigError(
                f"{where}.{given[0]} is {section[given[0]]}, less than one step"
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
        that is not given is left out.

        Args:
            section: keys and values as a config has them.
            names: which names are lengths.
            where: the name of the section, for errors.
            lists: which of the names are lists of lengths.

        Raises:
            ConfigError: a length is given in two units, without a unit, or is not a number.
        """
        resolved = dict(section)
        for name in names:
            if name in resolved:
                raise ConfigError(
                    f"{where}.{name}: a length needs a unit:"
                    f" {', '.join(repr(key) for key in spellings([name]))}"
                )
            given = {unit: resolved.pop(f"{name}_{unit}", None) for unit in UNITS}
            given = {unit: value for unit, value in given.items() if value is not None}
            if len(given) > 1:
                raise ConfigError(
                    f"{where}: give exactly one of"
                    f" {' and '.join(repr(f'{name}_{unit}') for unit in given)}"
                )
            for unit, value in given.items():
                key = f"{where}.{name}_{unit}"
                if name in lists:
                    check_value(value, Sequence[NonNegativeFloat], key)
                    resolved[name] = [self._steps(item, unit, key) for item in value]
                else:
                    resolved[name] = self._steps(value, unit, key)
        return resolved

    def _steps(self, value: Any, unit: str, where: str) -> int:
        number = _number(value, where)
        if unit == "epochs":
            return round(number * _epoch(self.steps_per_epoch, where))
        per_unit = {"steps": 1, "fraction": self.steps}[unit]
        if unit == "fraction" and number > 1:
            raise ConfigError(f"{where} is {value}; a fraction of the run must be in [0, 1]")
        return round(number * per_unit)


def _epoch(steps_per_epoch: float | None, where: str) -> float:
    if steps_per_epoch is None:
        raise ConfigError(f"{where}: episodes have no epochs; give the length in steps")
    return steps_per_epoch


def _number(value: Any, where: str) -> float:
    check_value(value, NonNegativeFloat, where)
    return float(value)
