"""Overrides of config values from the command line."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from vitjax.config import user_code
from vitjax.core.errors import ConfigError

PREFIX = "--config."


def override(config: ml_collections.ConfigDict, arguments: Iterable[str]) -> None:
    """Sets values in ``config`` from arguments such as ``--config.optimizer.learning_rate=3e-4``.

    A value is read as a Python literal where it is one and as text where it is not; where the
    config has a value already, the new one must be of its type (any number will do for a number).
    ``None`` removes the key, so that its default applies. Keys that the config lacks are added; the
    section's reader checks them. Files of ``config.imports``, relative to the current directory,
    are imported.

    Raises:
        ConfigError: an argument without ``=``, a value of another type, a path through a value, or
            a file that cannot be imported.
    """
    for argument in arguments:
        path, equals, text = argument.removeprefix(PREFIX).partition("=")
        if not argument.startswith(PREFIX) or not equals or not all(path.split(".")):
            raise ConfigError(f"{argument!r}: an override reads {PREFIX}section.key=value")
        *sections, key = path.split(".")
        section = config
        for depth, name in enumerate(sections, start=1):
            if name not in section or section[name] is None:
                section[name] = ml_collections.ConfigDict()
            section = section[name]
            if not isinstance(section, ml_collections.ConfigDict):
                here = ".".join(sections[:depth])
                raise ConfigError(
                    f"{argument!r}: config.{here} is a value ({section!r}), not a section"
                )
        if text == "None":
            if key in section:
                del section[key]
            continue
        value = parse_value(text)
        if key in section:
            value = _convert(value, text, section[key], argument)
        with section.ignore_type():
            section[key] = value
    user_code.load(config, Path.cwd())


def parse_value(text: str) -> Any:
    """``text`` as a Python literal where it is one, and as text where it is not."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _convert(value: Any, text: str, old: Any, argument: str) -> Any:
    """``value`` as the type of ``old``, or an error that says both types."""
    if old is None:
        return value
    if isinstance(old, str):
        return text
    if isinstance(old, bool) or isinstance(value, bool):
        if type(old) is type(value):
            return value
    elif isinstance(old, float) and isinstance(value, int):
        return float(value)
    elif isinstance(old, int) and isinstance(value, float):
        # Epochs may be a fraction; a reader that needs an integer checks that itself.
        return int(value) if value.is_integer() else value
    elif isinstance(old, list | tuple) and isinstance(value, list | tuple):
        return type(old)(value)
    elif type(old) is type(value):
        return value
    raise ConfigError(
        f"{argument!r}: the config has {old!r}, a {type(old).__name__};"
        f" {text!r} is a {type(value).__name__}"
    )
