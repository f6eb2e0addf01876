"""Checks keyword arguments and values that a person wrote, with errors that name the near match."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

# Linen adds these two fields to every module; they are not for configs.
_LINEN_FIELDS = frozenset({"parent", "name"})


def keywords_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of ``function`` that may be given by keyword, without Linen's own fields."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if p.kind in kinds and k not in _LINEN_FIELDS}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what ``function`` takes, as far as they can be worked out."""
    while isinstance(function, functools.partial):
        function = function.func
    target: Any = function
    if isinstance(function, type) and not dataclasses.is_dataclass(function):
        target = vars(function).get("__init__", function)
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):
        return {}


# What a config can hold, in a person's words. bool is an int to Python, but not to a person.
_WORDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    bool: ("True or False", lambda v: isinstance(v, bool)),
    str: ("text", lambda v: isinstance(v, str)),
    type(None): ("None", lambda v: v is None),
    Sequence: ("a list", lambda v: isinstance(v, list | tuple)),
    list: ("a list", lambda v: isinstance(v, list | tuple)),
    tuple: ("a list", lambda v: isinstance(v, list | tuple)),
    Mapping: ("a section", lambda v: isinstance(v, Mapping)),
    dict: ("a section", lambda v: isinstance(v, Mapping)),
}


def _check_type(value: Any, hint: Any, where: str) -> None:
    """Raises ConfigError if ``value`` is of none of the simple types that ``hint`` names."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [typing.get_origin(h) or h for h in (typing.get_args(hint) if union else (hint,))]
    if all(kind in _WORDS for kind in kinds) and not any(_WORDS[k][1](value) for k in kinds):
        words = " or ".join(dict.fromkeys(_WORDS[kind][0] for kind in kinds))
        raise ConfigError(f"{where} is {value!r}; it should be {words}")


def check_keywords(
    function: Callable[..., Any],
    keywords: Iterable[str],
    *,
    where: str,
    given: Iterable[str] = (),
    also: Iterable[str] = (),
) -> None:
    """Checks that ``function`` reads every one of ``keywords`` and that none it needs is missing.

    Args:
        function: what will be called.
        keywords: the names that a person wrote; of a mapping, the values are compared with the
            function's annotations too, where those are plain numbers, text and lists.
        where: where they wrote them, for the message: a section of the config, say.
        given: parameters that the caller itself supplies, so that a person cannot.
        also: further names that are read elsewhere, and so are not errors.

    Raises:
        ConfigError: naming the key, where it stands, the near match and what could be given.
    """
    values = keywords if isinstance(keywords, Mapping) else {}
    keywords, given, also = list(keywords), set(given), set(also)
    parameters = keywords_of(function)
    readable = [name for name in parameters if name not in given]
    readable += sorted(also.difference(readable))
    for key in keywords:
        if key not in readable:
            raise ConfigError(
                f"{where}: nothing reads the key {key!r}{near_match(key, readable)}"
                f" (keys here: {', '.join(readable) or 'none'})"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given and name not in keywords:
            raise ConfigError(f"{where}: the key {name!r} is missing")
    hints = _hints(function)
    for key, value in values.items():
        if key in hints and key in parameters:
            _check_type(value, hints[key], f"{where}.{key}")


def call(
    function: Callable[..., Any], keywords: Mapping[str, Any], *, where: str, **given: Any
) -> Any:
    """Calls ``function(**keywords, **given)`` after `check_keywords`.

    Raises:
        ConfigError: a keyword that nobody reads, or a missing one.
    """
    check_keywords(function, keywords, where=where, given=given)
    return function(**keywords, **given)


def check_choice(field: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ConfigError unless the ``value`` of ``field`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(
            f"{field}={value!r}{near_match(str(value), choices)} (choices: {', '.join(choices)})"
        )


def check_rate(field: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is a probability below one."""
    if not 0 <= value < 1:
        raise ConfigError(f"{field}={value!r}: a rate lies in [0, 1)")


def check_positive(field: str, *values: int) -> None:
    """Raises ConfigError unless ``field`` has values, and all of them are one or more."""
    if not values or any(isinstance(v, bool) or v < 1 for v in values):
        given = values[0] if len(values) == 1 else list(values)
        raise ConfigError(f"{field}={given!r}: it counts from one")
