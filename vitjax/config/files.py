"""Config files: Python with a function ``get_config()``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import ml_collections

import vitjax
from vitjax.config import limits, user_code
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.text import near_match, quoted

Value = TypeVar("Value")


def load(path: str | Path) -> ml_collections.ConfigDict:
    """Returns what ``get_config()`` of a config file returns.

    The file's `imports` are imported, see `vitjax.config.user_code`.

    Args:
        path: a Python file; or the name of a config of vitjax's own, such as ``"digits/vit"``. Text
            after a colon is passed on: ``"cifar10/vit:tfds"`` and ``"configs/cifar10/vit.py:tfds"``
            call ``get_config("tfds")``.

    Raises:
        ConfigError: the file does not exist, cannot be run, or has no ``get_config``.
    """
    path, argument = _resolve(expanded(str(path)))
    module = user_code.run(path, again=True)
    if not callable(vars(module).get("get_config")):
        raise ConfigError(f"{path}: has no function get_config()")
    given = "" if argument is None else quoted(argument)
    with user_code.errors_of(path, f"get_config({given})"):
        config = module.get_config() if argument is None else module.get_config(argument)
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"{path}: get_config() returns {type(config).__name__}, not a ConfigDict")
    # Its sections and values may be objects of classes of the file.
    with user_code.errors_of(path, "its config", passing=(ConfigError,)):
        limits.check(config, f"{path}: config")
        loaded = ml_collections.ConfigDict(config)
    loaded.unlock()
    if user_code.registers(module):
        loaded[user_code.KEY] = (str(path.absolute()), *loaded.get(user_code.KEY, ()))
    user_code.load(loaded, path.parent)
    return loaded


def variant(argument: str, variants: Mapping[str, Value]) -> Value:
    """The entry of ``variants`` that the argument of a ``get_config`` names.

    Raises:
        ConfigError: no entry has the name; the message gives the near match and all names.
    """
    if argument not in variants:
        raise ConfigError(
            f"unknown variant {quoted(argument)}{near_match(argument, variants)}"
            f" (known: {', '.join(variants)})"
        )
    return variants[argument]


def names() -> list[str]:
    """The names of vitjax's own configs, such as ``"digits/vit"``; sorted."""
    folder = _own()
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.py"))


def _own() -> Path:
    """The folder of vitjax's own configs: in the installed package, or in the repository."""
    package = Path(vitjax.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _resolve(text: str) -> tuple[Path, str | None]:
    """The file that ``text`` names, and the argument after a colon; None where there is none."""
    name, colon, argument = text.partition(".py:")
    if colon:
        name = f"{name}.py"
    elif not text.endswith(".py"):
        name, colon, argument = text.partition(":")
    file = f"{name.removesuffix('.py')}.py"
    places = (Path(name), Path(file), _own() / file.removeprefix("configs/"))
    path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        around = sorted(path.parent.glob("*.py")) if path.parent.is_dir() else []
        files = [str(place) for place in around if place.is_file()]
        near = near_match(name, files) or near_match(name.removesuffix(".py"), names())
        raise ConfigError(f"no config file {name!r}{near}")
    if path.suffix != ".py":
        raise ConfigError(f"{path}: a config is a Python file (.py) with a function get_config()")
    return path, argument if colon else None
