"""Regular expressions that choose parameters and layers by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

Patterns = str | Sequence[str]


def listed(patterns: Patterns) -> tuple[str, ...]:
    """``patterns`` as a tuple, whether it is one or a list."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the regular expressions ``patterns`` is found in ``name``."""
    return any(re.search(pattern, name) for pattern in patterns)


def layers(names: Iterable[str]) -> list[str]:
    """The layers that leaves of these ``names``, such as ``"norm1/scale"``, belong to; sorted."""
    return sorted({name.rpartition("/")[0] for name in names})


def check_expressions(patterns: Sequence[Any], where: str) -> None:
    """Raises ConfigError for one of ``patterns`` that is not a regular expression."""
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigError(
                f"{where}: {pattern!r} is not a regular expression; it must be a string"
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"{where}: {pattern!r} is not a regular expression: {error}"
            ) from None


def check_patterns(
    patterns: Sequence[str], names: Sequence[str], where: str, kind: str = "parameter"
) -> None:
    """Raises ConfigError for one of ``patterns`` that matches none of ``names``.

    Args:
        patterns: regular expressions.
        names: the names of all parameters, or of all things of another ``kind``.
        where: where a person wrote the patterns, for the message.
        kind: what the names stand for, for the message.
    """
    for pattern in patterns:
        if not any(matches(name, (pattern,)) for name in names):
            parts = {part for name in names for part in name.split("/")}
            raise ConfigError(
                f"{where}: {pattern!r} matches no {kind}{near_match(pattern, parts)}"
                f" (known: {', '.join(names) or 'none'})"
            )
