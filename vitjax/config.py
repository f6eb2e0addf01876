"""Config files: load one, override values from the command line, save it beside the run.

A config file is Python with ``get_config()`` returning an `ml_collections.ConfigDict`. Nothing here
knows which keys make sense: each section is handed as keyword arguments to what it names, and there
`vitjax.registry.check_keywords` rejects what nobody reads.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vitjax.registry import ConfigError, near_match

PREFIX = "--config."


def load(path: str | Path) -> ml_collections.ConfigDict:
    """Returns what ``get_config()`` of the Python file at ``path`` returns.

    Text after a colon is handed to it: ``"configs/cifar10/vit.py:tfds"`` calls
    ``get_config("tfds")``.

    Raises:
        ConfigError: no such file, the file cannot be run, or it has no ``get_config``.
    """
    name, colon, argument = str(path).partition(".py:")
    path = Path(f"{name}.py" if colon else name)
    if not path.is_file():
        siblings = (
            [str(p) for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        )
        raise ConfigError(f"no config file {str(path)!r}{near_match(str(path), siblings)}")
    if path.suffix != ".py":
        raise ConfigError(f"{path}: a config is a Python file (.py) with a function get_config()")
    spec = importlib.util.spec_from_file_location(f"vitjax_config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path}: has no function get_config()")
    try:
        config = module.get_config(argument) if colon else module.get_config()
    except Exception as error:
        raise ConfigError(
            f"{path}: get_config({repr(argument) if colon else ''}): {error}"
        ) from error
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"{path}: get_config() returns {type(config).__name__}, not a ConfigDict")
    loaded = ml_collections.ConfigDict(config)
    loaded.unlock()
    return loaded


def override(config: ml_collections.ConfigDict, arguments: Iterable[str]) -> None:
    """Sets values in ``config`` from arguments such as ``--config.optimizer.learning_rate=3e-4``.

    A value is read as a Python literal where it is one and as text where it is not; where the
    config has a value already, the new one must be of its type (any number will do for a number).
    ``None`` takes the key away, so that its default counts. Keys that the config lacks are added:
    whether anybody reads them is for the section's reader to say.

    Raises:
        ConfigError: an argument without ``=``, a value of another type, or a path through a value.
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
        # Epochs, for one, may be whole or not; who wants a whole number says so when reading it.
        return int(value) if value.is_integer() else value
    elif isinstance(old, list | tuple) and isinstance(value, list | tuple):
        return type(old)(value)
    elif type(old) is type(value):
        return value
    raise ConfigError(
        f"{argument!r}: the config has {old!r}, a {type(old).__name__};"
        f" {text!r} is a {type(value).__name__}"
    )
