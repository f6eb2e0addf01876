"""Configs as plain values: JSON, nested dicts, dotted keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import RequiredValueError

from vitjax.config import limits
from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted


def to_dict(config: Any) -> Any:
    """``config`` as plain dicts, lists and scalars, equal to what JSON gives back."""
    return json.loads(to_json(config))


def to_json(config: Any) -> str:
    """``config`` as JSON text with sorted keys.

    Raises:
        ConfigError: a value that JSON cannot hold, a placeholder without a value, or a section with
            keys that are no strings beside strings; the message names the key.
    """
    limits.check(config)
    return _to_json(config)


def _to_json(config: Any) -> str:
    if isinstance(config, ml_collections.ConfigDict):
        if (missing := _without_value(config)) is not None:
            raise ConfigError(
                f"config.{missing} has no value, and the config requires one"
                f" (--config.{missing}=VALUE)"
            )
        config = config.to_dict()
    plain = config
    for path, value in flatten(plain).items():
        try:
            json.dumps(value)
        except TypeError:
            raise ConfigError(
                f"config.{path}: {quoted(value)} is a {type(value).__name__}; a config holds"
                " numbers, text, booleans, None, lists and sections, so that it can be saved with"
                " the run"
            ) from None
    return json.dumps(plain, indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """The config that `to_json` wrote."""
    return ml_collections.ConfigDict(json.loads(text))


def section_of(keys: Mapping[Any, Any], where: str) -> ml_collections.ConfigDict:
    """``keys`` as a section, and the dicts in it as sections.

    Args:
        keys: names and values.
        where: the place of the section in the config, for errors.

    Raises:
        ConfigError: a key is no text, or has a dot, which separates sections.
    """
    section = ml_collections.ConfigDict()
    for key, value in keys.items():
        if not isinstance(key, str) or "." in key:
            raise ConfigError(
                f"{where}: {quoted(key)} cannot be a key; keys are strings without a dot (values"
                " for classes whose names have one are given as a list, in the order of the"
                " classes)"
            )
        section[key] = section_of(value, f"{where}.{key}") if isinstance(value, Mapping) else value
    return section


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one dict with dotted keys, sorted; an empty section keeps its own key."""
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping | ml_collections.ConfigDict) and len(value):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def value_of(section: ml_collections.ConfigDict, key: str) -> Any:
    """The value of ``key``; None if it has none, as a required placeholder has."""
    try:
        return section.get(key)
    except RequiredValueError:
        return None


def _without_value(config: ml_collections.ConfigDict, prefix: str = "") -> str | None:
    """The first key, with dots, of a required placeholder without a value; None if all have one."""
    for key in config:
        try:
            value = config[key]
        except RequiredValueError:
            return f"{prefix}{key}"
        if isinstance(value, ml_collections.ConfigDict):
            found = _without_value(value, f"{prefix}{key}.")
            if found is not None:
                return found
    return None
