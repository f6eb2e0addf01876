"""What an annotation allows, and why a value does not fit it."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from vitjax.core.constraints import (
    Constraint,
    Infinite,
    Length,
    OneOf,
    alternatives,
    range_problem,
)

# Linen adds these two fields to every module; they are not for configs.
LINEN_FIELDS = frozenset({"parent", "name"})


class Problem(NamedTuple):
    """Why a value does not fit an annotation."""

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


def problem(value: Any, hint: Any) -> Problem | None:
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
        return Problem("", value, _describe(hint), True, options)
    if is_section_class(hint):
        if isinstance(value, (hint, Mapping)):
            return None  # the keys of a section are checked where it is built, see `call`
        return Problem("", value, _describe(hint), True)
    plain = _PLAIN.get(origin or hint)
    if plain is None:
        return None
    if not plain.allows(value):
        return Problem("", value, _describe(hint), True)
    if hint in (int, float) and (words := range_problem(value)):
        return Problem("", value, words, False)
    if plain is _LIST and arguments:
        return _item(value, hint)
    if plain is _SECTION and arguments:
        for key, item in value.items():
            if (found := problem(item, arguments[1])) is not None:
                return found._replace(path=f".{key}{found.path}")
    return None


def _constrained(value: Any, hint: Any) -> Problem | None:
    base, *constraints = typing.get_args(hint)
    found = problem(value, base)
    infinite = any(isinstance(constraint, Infinite) for constraint in constraints)
    if infinite and found is not None and not found.wrong_type:
        found = None  # of a plain number, which must be finite
    if found is not None:
        own = found.path == "" and found.wrong_type
        return found._replace(words=_describe(hint)) if own else found
    for constraint in constraints:
        if isinstance(constraint, Constraint) and not constraint.allows(value):
            options = list(constraint.options)
            words = constraint.words_for(value)
            if isinstance(constraint, Length):
                words = f"{_describe(base)} {words}"
            return Problem("", value, words, False, options)
    return None


def _none_of(value: Any, members: Sequence[Any]) -> Problem | None:
    found = [problem(value, member) for member in members]
    if any(problem is None for problem in found):
        return None
    problems = [problem for problem in found if problem is not None]
    closest = [problem for problem in problems if not problem.wrong_type]
    if len(closest) == 1:
        return closest[0]
    words = alternatives(list(dict.fromkeys(_describe(member) for member in members)))
    options = [option for problem in problems for option in problem.options]
    return Problem("", value, words, not closest, options)


def _item(value: Any, hint: Any) -> Problem | None:
    """The first item of a list that does not fit, or that the list has another length."""
    arguments = typing.get_args(hint)
    each: Sequence[Any] = arguments
    if typing.get_origin(hint) is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
        each = [arguments[0]] * len(value)
    elif len(value) != len(arguments):
        return Problem("", value, _describe(hint), True)
    for index, (item, kind) in enumerate(zip(value, each, strict=True)):
        if (found := problem(item, kind)) is not None:
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
    if is_section_class(hint):
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


def is_section_class(hint: Any) -> bool:
    """Whether a section of keys stands for ``hint``: a dataclass that is not a Linen module."""
    return (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and not {field.name for field in dataclasses.fields(hint)} >= LINEN_FIELDS
    )
