"""Overrides of config values from the command line."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vitjax.config import limits, user_code
from vitjax.config.values import section_of, value_of
from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted

PREFIX = "--config."

# Sections that consist of a name and the keys of what it names, and the key of the name.
_NAMED = {
    **dict.fromkeys(("model", "objective", "optimizer", "schedule", "data.sampler"), "name"),
    "data": "source",
    "parallel": "mode",
}
# Keys that are a section or a value: by class a value each, or a list of them, or a name.
_EITHER = frozenset(("data.classes", "objective.class_weights", "parallel.rules"))
# Sections of a config that consist of keys alone.
_UNNAMED = frozenset(("train", "init", "checkpoint"))
# Words that literals of Python lack.
_WORDS = {"true": True, "false": False, "nan": math.nan, "inf": math.inf, "infinity": math.inf}


def override(config: ml_collections.ConfigDict, arguments: Iterable[str]) -> None:
    """Sets values in ``config`` from arguments such as ``--config.optimizer.learning_rate=3e-4``.

    A value is read as `parse_value` reads it. Where the config has text, only a list or a dict is
    not text; where it has a float, an integer becomes one. The reader of a key decides what its
    value may be, so a list may replace a number, and the reverse. ``None`` removes the key, so that
    its default applies. Keys that the config lacks are added.

    A dict replaces a section. So does a name, where a section consists of a name and its keys:
    ``--config.model=resnet18`` is that model with its defaults. A list or a name replaces a section
    whose key may be either, such as ``data.classes``. What replaces a section is applied before the
    keys in it, in whatever order they are given.

    Files of ``config.imports``, relative to the current directory, are imported.

    Raises:
        ConfigError: an argument without ``=``, a path through a value, a section replaced by what
            is neither, or a file that cannot be imported.
    """
    for argument in _in_order(arguments):
        path, equals, text = argument.removeprefix(PREFIX).partition("=")
        if not argument.startswith(PREFIX) or not equals or not all(path.split(".")):
            raise ConfigError(f"{quoted(argument)}: an override reads {PREFIX}section.key=value")
        *sections, key = path.split(".")
        section = config
        for depth, name in enumerate(sections, start=1):
            if value_of(section, name) is None:
                section[name] = ml_collections.ConfigDict()
            section = section[name]
            if not isinstance(section, ml_collections.ConfigDict):
                here = ".".join(sections[:depth])
                raise ConfigError(
                    f"{quoted(argument)}: config.{here} is a value ({quoted(section)}), not a"
                    " section"
                )
        if text == "None":
            if key in section:
                del section[key]
            continue
        old = value_of(section, key)
        value = _converted(parse_value(text), text, old, path)
        if isinstance(value, bool) and isinstance(old, float):
            del section[key]  # a ConfigDict would make a number of it, which no reader could refuse
        with section.ignore_type():
            section[key] = value
    limits.check(config)
    user_code.load(config, Path.cwd())


def _in_order(arguments: Iterable[str]) -> list[str]:
    """Sections before their keys, and the last of two names of one section."""
    given = list(arguments)
    paths = [argument.removeprefix(PREFIX).partition("=")[0] for argument in given]
    renamed = [
        path.rpartition(".")[0] in paths[place:]
        and path.rpartition(".")[2] == _NAMED.get(path.rpartition(".")[0], "name")
        for place, path in enumerate(paths)
    ]
    kept = [argument for argument, is_old in zip(given, renamed, strict=True) if not is_old]
    return sorted(kept, key=lambda argument: argument.partition("=")[0].count("."))


def parse_value(text: str) -> Any:
    """``text`` as a Python literal where it is one, and as text where it is not.

    ``true``, ``false``, ``nan``, ``inf`` and ``infinity`` may be written in any case, also within a
    list. A list needs no parentheses: ``3,5``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\d" in a pattern
            warnings.simplefilter("ignore", DeprecationWarning)
            parsed = ast.parse(text.strip(), mode="eval").body
        return ast.literal_eval(_Words().visit(parsed))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


class _Words(ast.NodeTransformer):
    """Replaces the words of `_WORDS` by their values."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The value of a word; other names stay, and are no literals."""
        word = node.id.lower()
        return ast.Constant(_WORDS[word]) if word in _WORDS else node


def _converted(value: Any, text: str, old: Any, path: str) -> Any:
    """``value`` as it goes to the place of ``old``, which is None where there is none."""
    if isinstance(value, Mapping):
        return section_of(value, f"config.{path}")
    is_section = isinstance(old, ml_collections.ConfigDict)
    name = _NAMED.get(path, "name" if is_section and "name" in old else None)
    if name is not None and isinstance(value, str):
        return ml_collections.ConfigDict({name: value})
    if is_section and path in _EITHER:
        return value
    # Within some sections, such as that of several losses, a number stands for a section.
    inner = "." in path and _is_number(value)
    if name is not None or path in _UNNAMED or (is_section and not inner):
        raise ConfigError(_not_a_section(text, path, name is not None))
    if isinstance(old, str) and not isinstance(value, list | tuple):
        return text
    if isinstance(old, float) and _is_number(value):
        return float(value)
    if _is_number(old) and isinstance(value, float) and value.is_integer():
        # Epochs may be a fraction; a reader that needs an integer checks that itself.
        return int(value)
    if isinstance(old, list | tuple) and isinstance(value, list | tuple):
        return type(old)(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_a_section(text: str, path: str, named: bool) -> str:
    name = f"a name ({PREFIX}{path}=NAME) or " if named else ""
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return (
        f"{PREFIX}{path}={shown}: config.{path} is a section; {name}a dict"
        f" ({PREFIX}{path}={{'key': value}}) replaces it, and {PREFIX}{path}.KEY=VALUE sets a key"
    )
