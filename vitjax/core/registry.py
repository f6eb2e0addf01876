"""Registries: names to constructors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match
from vitjax.core.validation import call

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


class Registry(Generic[Constructor]):
    """An ordered mapping of names to constructors of one kind.

    Attributes:
        kind: what the names stand for, as errors say it ("model", "data source").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._constructors: dict[str, Constructor] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[Constructor], Constructor]:
        """A decorator that registers a constructor under ``name``, with ``facts`` beside it."""

        def decorator(constructor: Constructor) -> Constructor:
            if name in self._constructors:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._constructors[name] = constructor
            self._facts[name] = facts
            return constructor

        return decorator

    def names(self) -> tuple[str, ...]:
        """All registered names, in the order of registration."""
        return tuple(self._constructors)

    def facts(self, name: str) -> Mapping[str, Any]:
        """What was registered beside the constructor of ``name``."""
        self[name]
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._constructors)

    def __contains__(self, name: object) -> bool:
        return name in self._constructors

    def __getitem__(self, name: str) -> Constructor:
        """The constructor of ``name``.

        Raises:
            ConfigError: there is no such name; the message gives the near match and all names.
        """
        try:
            return self._constructors[name]
        except (KeyError, TypeError):
            raise ConfigError(
                f"unknown {self.kind} {name!r}{near_match(name, self)} (known: {', '.join(self)})"
            ) from None

    def create(self, name: str, /, where: str = "", **keywords: Any) -> Any:
        """Calls the constructor of ``name`` with ``keywords``, checked as `call` checks them."""
        return call(self[name], keywords, where=where or f"{self.kind} {name!r}")
