"""Configs as plain values: JSON, nested dicts, dotted keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ml_collections

from vitjax.core.errors import ConfigError


def to_dict(config: Any) -> Any:
    """``config`` as plain dicts, lists and scalars, equal to what JSON gives back."""
    return json.loads(to_json(config))


def to_json(config: Any) -> str:
    """``config`` as JSON text with sorted keys.

    Raises:
        ConfigError: a value that JSON cannot hold; the message names its key.
    """
    plain = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    for path, value in flatten(plain).items():
        try:
            json.dumps(value)
        except TypeError:
            raise ConfigError(
                f"config.{path}: {value!r} is a {type(value).__name__}; a config holds numbers,"
                " text, booleans, None, lists and sections, so that it can be saved with the run"
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
                f"{where}: {key!r} cannot be a key; keys are strings without a dot (values for"
                " classes whose names have one are given as a list, in the order of the classes)"
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
