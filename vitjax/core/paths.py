"""Paths as people write them: a leading ``~`` is the home folder, as in a shell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted

Value = TypeVar("Value")

# A shell leaves --workdir=~/runs and --config.data.path=~/photos as they are. A name alone, such as
# "~one", is no path that anybody writes, and may be the name of a class.
_HOME = re.compile(r"~$|~[^/\s]*/")


def expanded(value: Value) -> Value:
    """``value`` with the home folder in place of a leading ``~`` or ``~user``.

    The one place that does this: commands expand their arguments, functions of the Python interface
    their paths, `vitjax.core.atomic.new_file` what is written, and the readers of a config all of
    its values. A run saves its config as it was written, so that it can be read where the home
    folder is another.

    Args:
        value: a string or a path; or lists, tuples and sections of them, item by item. Anything
            else, and a string that does not begin with ``~/``, is returned unchanged.
    """
    changed: Value = _expanded(value)
    return changed


def listed(given: Any, name: str) -> list[str | Path]:
    """``given``, a path or several, as a list; a leading ``~`` is the home folder.

    Args:
        given: what a person gave.
        name: what they gave it for, for errors.

    Raises:
        ConfigError: it is no path and no list of paths.
    """
    paths = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(paths, Iterable):
        raise ConfigError(f"{name} is {quoted(given)}; it must be a path or a list of paths")
    found = list(paths)
    for place, path in enumerate(found):
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"{name}[{place}] is {quoted(path)}; it must be a path")
    return [expanded(path if isinstance(path, str) else Path(path)) for path in found]


def check_writable(folder: Path, output: Path) -> None:
    """Checks that a folder can be written, or made.

    Args:
        folder: its path.
        output: what is to be written, for the error: the folder, or a file in it.

    Raises:
        ConfigError: it cannot.
    """
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise ConfigError(f"output: {output} cannot be made: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        what = "written" if nearest == output else f"made: {nearest} cannot be written"
        raise ConfigError(f"output: {output} cannot be {what} (permission denied)")


def given_twice(folders: Sequence[str | os.PathLike[str]]) -> str | None:
    """The first of ``folders`` that is an earlier one by another path or a link; None if none is.

    A leading ``~`` is the home folder.
    """
    seen = set()
    for folder in folders:
        own = os.path.realpath(expanded(os.fspath(folder)))
        if own in seen:
            return os.fspath(folder)
        seen.add(own)
    return None


def _expanded(value: Any) -> Any:
    if isinstance(value, str):
        return os.path.expanduser(value) if _HOME.match(value) else value
    if isinstance(value, Path):
        return Path(_expanded(str(value)))
    if type(value) in (list, tuple):
        return type(value)(map(_expanded, value))
    if isinstance(value, Mapping):
        return {key: _expanded(item) for key, item in value.items()}
    return value
