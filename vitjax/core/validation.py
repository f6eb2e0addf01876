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

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vitjax.core.annotations import LINEN_FIELDS, is_section_class, problem
from vitjax.core.constraints import (
    BatchSize,
    Bounds,
    Constraint,
    Episodes,
    Examples,
    FloatOrInfinity,
    Fraction,
    Length,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    Rate,
    Repetitions,
    Side,
    Steps,
    Workers,
)
from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, nearest, quoted, shortened

__all__ = [
    "BatchSize",
    "Bounds",
    "Constraint",
    "Episodes",
    "Examples",
    "FloatOrInfinity",
    "Fraction",
    "Length",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OneOf",
    "PositiveFloat",
    "PositiveInt",
    "Rate",
    "Repetitions",
    "Side",
    "Steps",
    "Workers",
    "call",
    "check_keywords",
    "check_value",
    "keywords_of",
    "used_before",
    "validate_fields",
]

_USED: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "used", default=types.MappingProxyType({})
)
_MOST_KEYS = 20  # unknown ones in a message
_SECTION_OF_CONFIG = re.compile(r"config(\.\w+)+")


def validate_fields(instance: Any, where: str = "") -> None:
    """Checks the fields of a dataclass or Linen module against their annotations.

    A field that has its default is not checked.

    Called in ``__post_init__``. Lists become tuples, so that an instance made from JSON has a hash.

    Args:
        instance: what has the fields.
        where: where a person wrote them, for errors, such as ``"config.model"``.

    Raises:
        ConfigError: the value of a field cannot be used.
    """
    hints = _hints(type(instance))
    for field in dataclasses.fields(instance):
        if field.name in LINEN_FIELDS or not field.init:
            continue
        value = getattr(instance, field.name)
        if value is field.default:  # what the code itself gives, such as infinity for no limit
            continue
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
    found = problem(value, hint)
    if found is None or (not found.wrong_type and _was_used(value, name)):
        return
    raise ConfigError(
        f"{name}{found.path} is {quoted(found.value)}; it must be {found.words}"
        f"{near_match(found.value, found.options) if found.options else ''}"
    )


@contextlib.contextmanager
def used_before(values: Mapping[str, Any]) -> Iterator[None]:
    """Within it, values that a run was trained with only have to be of the right type.

    Bounds keep new runs from values that cannot work. What a run has used works, and an older
    version may have had other bounds.

    Args:
        values: by the names that `check_value` has for them, such as ``"config.optimizer.b2"``.
    """
    token = _USED.set(values)
    try:
        yield
    finally:
        _USED.reset(token)


def _was_used(value: Any, name: str) -> bool:
    used = _USED.get()
    return name in used and _as_tuple(used[name]) == _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _key(where: str, key: str) -> str:
    """The full name of ``key`` in ``where``."""
    if not where:
        return key
    return f"{where}.{key}" if where[-1].isalnum() else f"{where}: {key}"


def keywords_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of ``function`` that may be given by keyword, without Linen's own fields."""
    try:
        return dict(_keywords(function))
    except TypeError:  # without a hash
        return _keywords.__wrapped__(function)


@functools.cache
def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if p.kind in kinds and k not in LINEN_FIELDS}


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
    name: str | None = None,
    annotations: Mapping[str, Any] | None = None,
) -> None:
    """Checks that ``function`` takes each of ``keywords`` and that no required one is missing.

    Args:
        function: what will be called.
        keywords: the names that a person wrote; of a mapping, the values are checked against the
            function's annotations too.
        where: where they wrote them, for the message, such as a section of the config.
        given: parameters that the caller itself supplies, so that a person cannot.
        also: further names that are read elsewhere, and so are not errors.
        name: the name of ``function`` in the section, if a person chose it there.
        annotations: of the parameters, in place of those that ``function`` declares.

    Raises:
        ConfigError: naming all unknown keys, their place, the near matches, the known keys and the
            overrides that remove them; or the value and what it must be.
    """
    values = keywords if isinstance(keywords, Mapping) else {}
    keywords, given, also = list(keywords), set(given), set(also)
    parameters = keywords_of(function)
    readable = [name for name in parameters if name not in given]
    readable += sorted(also.difference(readable))
    if unknown := [key for key in keywords if key not in readable]:
        raise ConfigError(_unknown_keys(unknown, readable, where, name))
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given and key not in keywords:
            raise ConfigError(f"{where}: the key {key!r} is missing")
    hints = _hints(function) if annotations is None else annotations
    for key, value in values.items():
        if key in hints and key in parameters:
            check_value(value, hints[key], _key(where, key))
            section = _section_class(hints[key])
            if section is not None and isinstance(value, Mapping):
                check_keywords(section, value, where=_key(where, key))


def _unknown_keys(
    unknown: Sequence[str], readable: Sequence[str], where: str, name: str | None
) -> str:
    """The message of an error about keys that nobody reads."""
    shown = f"(known: {', '.join(readable) or 'none'})"
    if len(unknown) == 1:
        near = near_match(unknown[0], readable)
        message = f"{where}: unknown key {quoted(unknown[0])}{near} {shown}"
        left = [] if near else unknown
    else:
        # Many keys are those of something else; only a close match is likely to be a slip.
        slips = {key: nearest(key, readable, 0.8) for key in unknown}
        words = [quoted(k) + (f" ({near!r}?)" if near else "") for k, near in slips.items()]
        message = f"{where}: unknown keys {shortened(words, _MOST_KEYS)} {shown}"
        left = [key for key, near in slips.items() if near is None]
    if not left or not _SECTION_OF_CONFIG.fullmatch(where):
        return message
    if len(left) > _MOST_KEYS:
        return message
    removal = " ".join(f"--{where}.{key}=None" for key in left)
    message += f"; {removal} removes {'them' if len(left) > 1 else 'it'}"
    if name is not None:
        message += f", and --{where}={name} replaces the section by {name!r} with its defaults"
    return message


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
    return next((member for member in members if is_section_class(member)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
