"""Checks values against annotations; errors name key, value, what is right and the near match.

An annotation says all of what a value may be:

    class Encoder(nn.Module):
        depth: PositiveInt = 12
        dropout: Rate = 0.0
        pooling: Literal["token", "mean"] = "token"
        patch_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 16
        activation: Annotated[str, OneOf(ACTIVATIONS)] = "gelu"

        def __post_init__(self):
            validate_fields(self)
            super().__post_init__()

`call` and `check_keywords` read the annotations of functions and classes before they call them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from vitjax.core.constraints import (
    Bounds,
    Constraint,
    Fraction,
    Length,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    Rate,
    alternatives,
)
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

__all__ = [
    "Bounds",
    "Constraint",
    "Fraction",
    "Length",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OneOf",
    "PositiveFloat",
    "PositiveInt",
    "Rate",
    "call",
    "check_keywords",
    "check_value",
    "keywords_of",
    "validate_fields",
]

# Linen adds these two fields to every module; they are not for configs.
_LINEN_FIELDS = frozenset({"parent", "name"})


def validate_fields(instance: Any, where: str = "") -> None:
    """Checks the fields of a dataclass or Linen module against their annotations.

    Called in ``__post_init__``. Lists become tuples, so that an instance made from JSON has a hash.

    Args:
        instance: what has the fields.
        where: where a person wrote them, for errors, such as ``"config.model"``.

    Raises:
        ConfigError: the value of a field cannot be used.
    """
    hints = _hints(type(instance))
    for field in dataclasses.fields(instance):
        if field.name in _LINEN_FIELDS or not field.init:
            continue
        value = getattr(instance, field.name)
        if isinstance(value, list):
            value = _as_tuple(value)
            object.__setattr__(instance, field.name, value)
        if field.name in hints:
            check_value(value, hints[field.name], _key(where, field.name))


def check_value(value: Any, hint: Any, name: str) -> None:
    """Checks one value against an annotation.

    Args:
        value: what a person wrote.
        hint: plain types, ``Literal``, ``Annotated`` with a `Constraint`, lists, sections, unions
            and dataclasses of these. A type that a config cannot hold allows every value.
        name: what the value is called, for errors.

    Raises:
        ConfigError: naming the value, what it must be and the near match.
    """
    problem = _problem(value, hint)
    if problem is not None:
        raise ConfigError(
            f"{name}{problem.path} is {problem.value!r}; it must be {problem.words}"
            f"{near_match(problem.value, problem.options) if problem.options else ''}"
        )


class _Problem(NamedTuple):
    path: str  # from the value that was checked to the one at fault
    value: Any
    words: str  # what it must be
    wrong_type: bool
    options: Sequence[str] = ()


class _Plain(NamedTuple):
    one: str
    several: str
    allows: Callable[[Any], bool]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


_LIST = _Plain("a list", "lists", _is_list)
_SECTION = _Plain("a section of keys", "sections", _is_mapping)
# What a config can hold. bool is an int to Python, and an error where a person wrote it for one.
_PLAIN: dict[Any, _Plain] = {
    int: _Plain(
        "an integer",
        "integers",
        lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool),
    ),
    float: _Plain(
        "a number", "numbers", lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool)
    ),
    bool: _Plain("True or False", "booleans", lambda v: isinstance(v, bool)),
    str: _Plain("a string", "strings", lambda v: isinstance(v, str)),
    type(None): _Plain("None", "Nones", lambda v: v is None),
    Sequence: _LIST,
    list: _LIST,
    tuple: _LIST,
    Mapping: _SECTION,
    dict: _SECTION,
}


def _problem(value: Any, hint: Any) -> _Problem | None:
    """Why ``value`` does not fit ``hint``; None if it does, or if a config cannot hold ``hint``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _constrained(value, hint)
    if origin in (typing.Union, types.UnionType):
        return _none_of(value, arguments)
    if origin is Literal:
        if any(type(value) is type(option) and value == option for option in arguments):
            return None
        options = [option for option in arguments if isinstance(option, str)]
        return _Problem("", value, _describe(hint), True, options)
    if _is_section_class(hint):
        if isinstance(value, (hint, Mapping)):
            return None  # the keys of a section are checked where it is built, see `call`
        return _Problem("", value, _describe(hint), True)
    plain = _PLAIN.get(origin or hint)
    if plain is None:
        return None
    if not plain.allows(value):
        return _Problem("", value, _describe(hint), True)
    if plain is _LIST and arguments:
        return _item(value, hint)
    if plain is _SECTION and arguments:
        for key, item in value.items():
            if (found := _problem(item, arguments[1])) is not None:
                return found._replace(path=f".{key}{found.path}")
    return None


def _constrained(value: Any, hint: Any) -> _Problem | None:
    base, *constraints = typing.get_args(hint)
    found = _problem(value, base)
    if found is not None:
        return found._replace(words=_describe(hint)) if found.path == "" else found
    for constraint in constraints:
        if isinstance(constraint, Constraint) and not constraint.allows(value):
            options = list(constraint.options)
            words = constraint.words
            if isinstance(constraint, Length):
                words = f"{_describe(base)} {words}"
            return _Problem("", value, words, False, options)
    return None


def _none_of(value: Any, members: Sequence[Any]) -> _Problem | None:
    found = [_problem(value, member) for member in members]
    if any(problem is None for problem in found):
        return None
    problems = [problem for problem in found if problem is not None]
    closest = [problem for problem in problems if not problem.wrong_type]
    if len(closest) == 1:
        return closest[0]
    words = alternatives(list(dict.fromkeys(_describe(member) for member in members)))
    options = [option for problem in problems for option in problem.options]
    return _Problem("", value, words, not closest, options)


def _item(value: Any, hint: Any) -> _Problem | None:
    """The first item of a list that does not fit, or that the list has another length."""
    arguments = typing.get_args(hint)
    each: Sequence[Any] = arguments
    if typing.get_origin(hint) is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
        each = [arguments[0]] * len(value)
    elif len(value) != len(arguments):
        return _Problem("", value, _describe(hint), True)
    for index, (item, kind) in enumerate(zip(value, each, strict=True)):
        if (found := _problem(item, kind)) is not None:
            return found._replace(path=f"[{index}]{found.path}")
    return None


def _describe(hint: Any) -> str:
    """What a value that fits ``hint`` is, such as "an integer at least 1 or None"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        base, *constraints = arguments
        words = [each.words for each in constraints if isinstance(each, Constraint)]
        if any(isinstance(each, OneOf) for each in constraints):
            return " ".join(words)
        return " ".join([_describe(base), *words])
    if origin in (typing.Union, types.UnionType):
        return alternatives(list(dict.fromkeys(_describe(member) for member in arguments)))
    if origin is Literal:
        return alternatives([repr(option) for option in arguments])
    if _is_section_class(hint):
        return _SECTION.one
    plain = _PLAIN.get(origin or hint)
    if plain is None:
        return getattr(hint, "__name__", str(hint))
    if plain is not _LIST or not arguments:
        return plain.one
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} {_several(arguments)}"
    return f"a list of {_several(arguments[:1])}"


def _several(hints: Sequence[Any]) -> str:
    """The plural of what fits all ``hints``."""
    if len(set(hints)) > 1:
        return "values"
    base, words = hints[0], ""
    if typing.get_origin(base) is Annotated:
        base, *constraints = typing.get_args(base)
        words = "".join(f" {each.words}" for each in constraints if isinstance(each, Constraint))
    plain = _PLAIN.get(typing.get_origin(base) or base)
    return (plain.several if plain else "values") + words


def _is_section_class(hint: Any) -> bool:
    """Whether a section of keys stands for ``hint``: a dataclass that is not a Linen module."""
    return (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and not {field.name for field in dataclasses.fields(hint)} >= _LINEN_FIELDS
    )


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _key(where: str, key: str) -> str:
    """The full name of ``key`` in ``where``."""
    if not where:
        return key
    return f"{where}.{key}" if where[-1].isalnum() else f"{where}: {key}"


def keywords_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of ``function`` that may be given by keyword, without Linen's own fields."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if p.kind in kinds and k not in _LINEN_FIELDS}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what ``function`` takes, as far as they can be resolved."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return _resolved(function)
    except TypeError:  # without a hash
        return _resolved.__wrapped__(function)


@functools.cache
def _resolved(function: Callable[..., Any]) -> dict[str, Any]:
    if isinstance(function, type) and dataclasses.is_dataclass(function):
        owners: list[Any] = [c for c in reversed(function.__mro__) if c is not object]
    elif isinstance(function, type):
        owners = [function.__init__]  # type: ignore[misc]
    else:
        owners = [function]
    hints: dict[str, Any] = {}
    for owner in owners:
        module = sys.modules.get(getattr(owner, "__module__", None) or "")
        names = {**vars(module)} if module is not None else {}
        names.update(getattr(owner, "__globals__", {}))
        for name, annotation in inspect.get_annotations(owner).items():
            # One at a time: a name that exists for type checkers alone spoils no other annotation.
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                hints.update(typing.get_type_hints(alone, names, include_extras=True))
            except (NameError, TypeError, SyntaxError, AttributeError):
                hints.pop(name, None)
    return hints


def check_keywords(
    function: Callable[..., Any],
    keywords: Iterable[str],
    *,
    where: str,
    given: Iterable[str] = (),
    also: Iterable[str] = (),
) -> None:
    """Checks that ``function`` takes each of ``keywords`` and that no required one is missing.

    Args:
        function: what will be called.
        keywords: the names that a person wrote; of a mapping, the values are checked against the
            function's annotations too.
        where: where they wrote them, for the message, such as a section of the config.
        given: parameters that the caller itself supplies, so that a person cannot.
        also: further names that are read elsewhere, and so are not errors.

    Raises:
        ConfigError: naming the key, its place, the near match and the known keys; or the value and
            what it must be.
    """
    values = keywords if isinstance(keywords, Mapping) else {}
    keywords, given, also = list(keywords), set(given), set(also)
    parameters = keywords_of(function)
    readable = [name for name in parameters if name not in given]
    readable += sorted(also.difference(readable))
    for key in keywords:
        if key not in readable:
            raise ConfigError(
                f"{where}: unknown key {key!r}{near_match(key, readable)}"
                f" (known: {', '.join(readable) or 'none'})"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given and name not in keywords:
            raise ConfigError(f"{where}: the key {name!r} is missing")
    hints = _hints(function)
    for key, value in values.items():
        if key in hints and key in parameters:
            check_value(value, hints[key], _key(where, key))
            section = _section_class(hints[key])
            if section is not None and isinstance(value, Mapping):
                check_keywords(section, value, where=_key(where, key))


def call(
    function: Callable[..., Any], keywords: Mapping[str, Any], *, where: str, **given: Any
) -> Any:
    """Calls ``function(**keywords, **given)`` after `check_keywords`.

    A section given for a parameter whose annotation is a dataclass becomes that dataclass.

    Raises:
        ConfigError: an unknown keyword, a missing one, or a value that cannot be used.
    """
    check_keywords(function, keywords, where=where, given=given)
    hints, arguments = _hints(function), dict(keywords)
    for key, value in keywords.items():
        section = _section_class(hints.get(key))
        if section is not None and isinstance(value, Mapping):
            arguments[key] = call(section, value, where=_key(where, key))
    return function(**arguments, **given)


def _section_class(hint: Any) -> Any:
    """The dataclass that a section given for ``hint`` becomes, or None."""
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    return next((member for member in members if _is_section_class(member)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
