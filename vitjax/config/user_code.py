"""Python files of the user's own: imported by name, kept with the run, imported again from there.

``config.imports`` lists files that register models, objectives, metrics, sources, transforms or
tasks, with paths relative to the config file. A config file that registers something itself is
added to the list when it is loaded. Each file becomes the module ``vitjax_user.STEM``, wherever it
lies: so what it registers keeps its qualified name, and a later file of the list may
``from vitjax_user.STEM import ...``.

A run keeps the files in ``code/`` of its folder, with a hash of each, and its saved config lists
those copies: the folder alone is enough to evaluate, predict, export and probe.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from vitjax.core.atomic import new_file, write_json
from vitjax.core.errors import ConfigError, in_one_line
from vitjax.core.json_files import read_object
from vitjax.core.paths import expanded
from vitjax.core.registry import registrations
from vitjax.core.text import near_match, quoted

KEY = "imports"
FOLDER = "code"
HASHES = "sha256.json"
PACKAGE = "vitjax_user"
_MOST_BYTES = 2**24  # of a file


def load(config: MutableMapping[str, Any], folder: str | Path) -> None:
    """Imports the files of ``config.imports`` and makes their paths absolute.

    A file that was imported already is not run again unless its text has changed.

    Args:
        config: a config; without the key nothing happens.
        folder: what relative paths are relative to.

    Raises:
        ConfigError: a file does not exist or cannot be run, two files have one name, or one
            registers a name that another object has.
    """
    folder = expanded(folder)
    paths = [Path(folder, path).absolute() for path in expanded(_listed(config))]
    for number, path in enumerate(paths):
        for other in paths[:number]:
            if path.stem == other.stem and path != other:
                raise ConfigError(
                    f"config.{KEY}: {other} and {path} have the same name, and a run keeps its"
                    " files side by side; rename one"
                )
        run(path)
    if paths:
        config[KEY] = type(config[KEY])(map(str, paths))


def run(path: Path, *, again: bool = False) -> types.ModuleType:
    """Runs a Python file as module ``vitjax_user.STEM``.

    Args:
        path: the file.
        again: run it even if the module of this text is imported already.

    Raises:
        ConfigError: the file does not exist, is not a Python file, or fails.
    """
    try:
        found = path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or with a zero byte
        raise ConfigError(f"no file {quoted(str(path))}: {error}") from None
    if not found:
        files = sorted(path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise ConfigError(f"no file {str(path)!r}{near_match(str(path), map(str, files))}")
    if path.suffix != ".py":
        raise ConfigError(f"{path}: not a Python file (.py)")
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(
            f"{path}: a file of {path.stat().st_size:,} bytes; code has at most {_MOST_BYTES:,}"
        )
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    name = f"{PACKAGE}.{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and not again and vars(loaded).get("__sha256__") == digest:
        return loaded
    module = types.ModuleType(name)
    module.__file__ = str(path)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin=str(path))
    vars(module)["__sha256__"] = digest
    # In sys.modules, as dataclasses and pickle require; of a package, so that files import others.
    package = sys.modules.setdefault(PACKAGE, types.ModuleType(PACKAGE))
    vars(package).setdefault("__path__", [])
    sys.modules[name] = module
    before = registrations(name)
    try:
        with errors_of(path):
            exec(compile(source, str(path), "exec"), vars(module))
    except ConfigError:
        _forget(name, loaded)
        raise
    vars(module)["__registers__"] = registrations(name) > before
    setattr(package, path.stem, module)
    import cloudpickle  # here, since most commands run no file of a user

    # The loader's worker processes cannot import the module: they receive its text instead.
    cloudpickle.register_pickle_by_value(module)
    return module


@contextlib.contextmanager
def errors_of(
    path: Path, what: str = "", *, passing: tuple[type[BaseException], ...] = ()
) -> Iterator[None]:
    """Turns whatever code of a user raises into one line with the file and the number of the line.

    An interruption from the keyboard passes.

    Args:
        path: the file of the code.
        what: what is run of it, for the error.
        passing: errors that stay as they are.

    Raises:
        ConfigError: the code raises something, or ends the program.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, *passing)):
            raise
        numbers = [n for frame, n in traceback.walk_tb(error.__traceback__) if _is(frame, path)]
        line = f" (line {numbers[-1]})" if numbers else ""
        text = in_one_line(error)
        if isinstance(error, SystemExit):
            text = f"it ends the program ({text})"
        raise ConfigError(f"{path}: {what}{': ' if what else ''}{text}{line}") from error


def _is(frame: types.FrameType, path: Path) -> bool:
    return frame.f_code.co_filename == str(path)


def registers(module: types.ModuleType) -> bool:
    """Whether the file of ``module`` registers something."""
    registered: bool = vars(module)["__registers__"]
    return registered


def save(config: MutableMapping[str, Any], workdir: Path, say: Callable[[str], None]) -> Any:
    """Copies the files of a loaded config into ``code/`` of a run's folder.

    Args:
        config: as `load` left it, or plain values of it.
        workdir: the run's folder.
        say: receives a line for each file that has changed since it was copied before.

    Returns:
        The config to save: a copy that lists the files in ``code/``, relative to ``workdir``.
    """
    paths = [Path(path) for path in _listed(config)]
    if not paths:
        return config
    folder = workdir / FOLDER
    before = _hashes(folder)
    now = {}
    for path in paths:
        source = path.read_bytes()
        now[path.name] = hashlib.sha256(source).hexdigest()
        if before.get(path.name, now[path.name]) != now[path.name]:
            say(f"  changed since: {path} (it was copied to {folder / path.name} before)")
        if before.get(path.name) != now[path.name] or not (folder / path.name).is_file():
            with new_file(folder / path.name) as unfinished:
                unfinished.write_bytes(source)
    write_json(folder / HASHES, now)
    return {**config, KEY: [f"{FOLDER}/{path.name}" for path in paths]}


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Name of each file that a loaded config imports -> the hash of the text that was run."""
    paths = [Path(path) for path in _listed(config)]
    return {path.name: vars(sys.modules[f"{PACKAGE}.{path.stem}"])["__sha256__"] for path in paths}


def restore(
    config: MutableMapping[str, Any], workdir: str | Path, say: Callable[[str], None] = print
) -> None:
    """Imports the files that a run keeps in ``code/``.

    Args:
        config: the config that the run saved; its paths become absolute.
        workdir: the run's folder.
        say: receives a line for each file that has been edited there.

    Raises:
        ConfigError: as in `load`.
    """
    load(config, workdir)
    hashes = _hashes(Path(workdir, FOLDER))
    for path in map(Path, _listed(config)):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if hashes.get(path.name, found) != found:
            say(f"  changed since: {path} was edited after the run had copied it")


def _listed(config: Mapping[str, Any]) -> Sequence[str]:
    listed = config.get(KEY) or ()
    if not isinstance(listed, list | tuple) or not all(isinstance(path, str) for path in listed):
        raise ConfigError(
            f"config.{KEY} is {quoted(listed)}; it must be a list of Python files, such as"
            ' ("my_models.py",)'
        )
    return tuple(listed)


def _hashes(folder: Path) -> dict[str, str]:
    """Name of each file in ``folder`` -> the hash of its text when it was copied."""
    path = folder / HASHES
    try:
        return read_object(path)
    except FileNotFoundError:
        return {}


def _forget(name: str, before: types.ModuleType | None) -> None:
    """Takes a module that failed out of ``sys.modules``; the one before it comes back."""
    if before is None:
        del sys.modules[name]
    else:
        sys.modules[name] = before
