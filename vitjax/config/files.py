"""Config files: Python with a function ``get_config()``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import ml_collections

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match


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
