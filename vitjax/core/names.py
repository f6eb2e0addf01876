"""Names of the leaves of a pytree, and regular expressions that choose parameters by them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

Patterns = str | Sequence[str]


def listed(patterns: Patterns) -> tuple[str, ...]:
    """``patterns`` as a tuple, whether it is one or a list."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the regular expressions ``patterns`` is found in ``name``."""
    return any(re.search(pattern, name) for pattern in patterns)


def parameter_names(params: Any) -> list[str]:
    """The names of all leaves of ``params``, in the order of `jax.tree.leaves`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def count_parameters(params: Any) -> int:
    """The number of scalars in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def layer(name: str) -> str:
    """The layer that a leaf belongs to: ``"block1/norm1"`` for ``"block1/norm1/scale"``."""
    return name.rpartition("/")[0]


def layers(names: Iterable[str]) -> list[str]:
    """The layers that leaves of these ``names`` belong to; sorted."""
    return sorted(set(map(layer, names)))


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
