"""The optimizers of optax by name."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import optax
import optax.contrib

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match, quoted


def find_optimizer(name: Any, where: str) -> Any:
    """The constructor in `optax` or `optax.contrib` called ``name``.

    Args:
        name: what a person wrote.
        where: the key of the name, for the message.

    Raises:
        ConfigError: an unknown optimizer; the message gives the near match and all names.
    """
    known = _optimizers()
    if isinstance(name, str) and name in known:
        return known[name]
    raise ConfigError(
        f"{where}: optax has no optimizer {quoted(name)}{near_match(name, known)}"
        f" (known: {', '.join(sorted(known))})"
    )


def optimizer_names() -> list[str]:
    """The names that `find_optimizer` knows; sorted."""
    return sorted(_optimizers())


@functools.cache
def _optimizers() -> dict[str, Any]:
    return {
        found: getattr(module, found)
        for module in (optax.contrib, optax)
        for found in dir(module)
        if _is_optimizer(found, getattr(module, found))
    }


def _is_optimizer(name: str, candidate: Any) -> bool:
    if name.startswith(("_", "scale_by_")) or not inspect.isfunction(candidate):
        return False
    parameters = inspect.signature(candidate).parameters
    return next(iter(parameters), None) == "learning_rate"
