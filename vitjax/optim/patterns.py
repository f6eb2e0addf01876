"""One value per parameter, chosen by regular expressions that are searched for in its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vitjax.core.names import Patterns, check_expressions, check_patterns, listed, matches


def is_trained(
    names: Sequence[str], train_only: Patterns | None, freeze: Patterns, where: str
) -> list[bool]:
    """Whether each of ``names`` matches ``train_only``, if that is given, and not ``freeze``.

    Raises:
        ConfigError: a pattern is not a regular expression, or matches no name.
    """
    for key, patterns in (("train_only", train_only), ("freeze", freeze)):
        check_expressions(listed(patterns or ()), f"{where}.{key}")
        check_patterns(listed(patterns or ()), names, f"{where}.{key}")
    chosen = (r"",) if train_only is None else listed(train_only)
    return [matches(name, chosen) and not matches(name, listed(freeze)) for name in names]


def factors(pairs: Sequence[Sequence[Any]], names: Sequence[str], where: str) -> list[float]:
    """The factor of the first of the (pattern, factor) ``pairs`` found in each name, else 1.

    Raises:
        ConfigError: a pattern is not a regular expression, or matches no name.
    """
    patterns = [pattern for pattern, _ in pairs]
    check_expressions(patterns, where)
    check_patterns(patterns, names, where)
    return [next((f for pattern, f in pairs if re.search(pattern, name)), 1.0) for name in names]
