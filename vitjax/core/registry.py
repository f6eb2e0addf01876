"""Registries: names to constructors."""

from __future__ import annotations

import collections
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, quoted
from vitjax.core.validation import call

Constructor = TypeVar("Constructor", bound=Callable[..., Any])

_REGISTRATIONS: collections.Counter[str] = collections.Counter()


def registrations(module: str) -> int:
    """How often the module of this name has registered something, in any registry."""
    return _REGISTRATIONS[module]


def named(
    section: Mapping[str, Any], where: str, *, key: str = "name", known: Iterable[str] = ()
) -> tuple[Any, dict[str, Any]]:
    """The name that a section of a config has under ``key``, and its other keys.

    Args:
        section: the section; it is not changed.
        where: the section's place in the config.
        key: the key of the name.
        known: the names to list in the error.

    Raises:
        ConfigError: the key is missing.
    """
    rest = dict(section)
    if key not in rest:
        names = ", ".join(known)
        raise ConfigError(
            f"{where}: the key {key!r} is missing" + (f" (known: {names})" if names else "")
        )
    return rest.pop(key), rest


class Registry(Generic[Constructor]):
    """An ordered mapping of names to constructors of one kind.

    Attributes:
        kind: what the names stand for, as errors say it ("model", "data source").
    """

    def __init__(self, kind: str, providers: Sequence[str] = ()):
        """Makes an empty registry.

        Args:
            kind: what the names stand for.
            providers: modules that register names when they are imported, which happens at the
                first lookup: so a room may look up what rooms that import it register.
        """
        self.kind = kind
        self._providers = list(providers)
        self._constructors: dict[str, Constructor] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._origins: dict[str, tuple[str, str]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[Constructor], Constructor]:
        """Returns a decorator that registers a constructor under ``name``, with ``facts`` of it.

        An object with the module and qualified name of the registered one replaces it, so that a
        file or a notebook cell may be run again.

        Raises:
            ConfigError: in the decorator, where another object has the name.
        """
        registering_module = sys._getframe(1).f_globals.get("__name__", "")

        def decorator(constructor: Constructor) -> Constructor:
            origin = _origin(constructor, registering_module)
            taken = self._origins.get(name, origin)
            if taken != origin:
                raise ConfigError(
                    f"{self.kind} {name!r} is registered already, as {'.'.join(taken)}; register"
                    f" {'.'.join(origin)} under another name"
                )
            self._constructors[name] = constructor
            self._facts[name] = facts
            self._origins[name] = origin
            _REGISTRATIONS[registering_module] += 1
            return constructor

        return decorator

    def names(self) -> tuple[str, ...]:
        """All registered names, in the order of registration."""
        return tuple(self._known())

    def facts(self, name: str) -> Mapping[str, Any]:
        """What was registered beside the constructor of ``name``."""
        self[name]
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._known()

    def __getitem__(self, name: str) -> Constructor:
        """The constructor of ``name``.

        Raises:
            ConfigError: the name is unknown; the message gives the near match and all names.
        """
        try:
            return self._known()[name]
        except (KeyError, TypeError):
            raise ConfigError(
                f"unknown {self.kind} {quoted(name)}{near_match(name, self)}"
                f" (known: {', '.join(self)})"
            ) from None

    def lookup(self, name: str, where: str) -> Constructor:
        """The constructor of ``name``, which a person wrote under the key ``where``.

        Raises:
            ConfigError: the name is unknown; the message begins with the key.
        """
        try:
            return self[name]
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def from_section(
        self, section: Mapping[str, Any], where: str, *, key: str = "name"
    ) -> tuple[Constructor, dict[str, Any]]:
        """The constructor that a section of a config names, and the section's other keys.

        Raises:
            ConfigError: the key is missing, or the name is unknown.
        """
        name, rest = named(section, where, key=key, known=self)
        return self.lookup(name, f"{where}.{key}"), rest

    def create(self, name: str, /, where: str = "", **keywords: Any) -> Any:
        """Calls the constructor of ``name`` with ``keywords``, checked as `call` checks them."""
        return call(self[name], keywords, where=where or f"{self.kind} {name!r}")

    def _known(self) -> dict[str, Constructor]:
        """The constructors, after the providers are imported."""
        while self._providers:
            # A provider may look names up itself while it is imported.
            provider = self._providers.pop(0)
            try:
                importlib.import_module(provider)
            except BaseException:
                self._providers.insert(0, provider)
                raise
        return self._constructors


def _origin(constructor: Any, registering_module: str) -> tuple[str, str]:
    """The module and qualified name of ``constructor``; of a partial, the module that made it."""
    if isinstance(constructor, functools.partial):
        return registering_module, _origin(constructor.func, registering_module)[1]
    return (
        getattr(constructor, "__module__", registering_module),
        getattr(constructor, "__qualname__", type(constructor).__qualname__),
    )
