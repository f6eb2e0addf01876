"""The optimizers of optax by name."""

from __future__ import annotations

import inspect
from typing import Any

import optax
import optax.contrib

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match


def find_optimizer(name: Any, where: str) -> Any:
    """The constructor in `optax` or `optax.contrib` called ``name``.

    Args:
        name: what a person wrote.
        where: the key of the name, for the message.

    Raises:
        ConfigError: an unknown optimizer; the message gives the near match and all names.
    """
    known = {
        found: getattr(module, found)
        for module in (optax.contrib, optax)
        for found in dir(module)
        if _is_optimizer(found, getattr(module, found))
    }
    if isinstance(name, str) and name in known:
        return known[name]
    raise ConfigError(
        f"{where}: optax has no optimizer {name!r}{near_match(name, known)}"
        f" (known: {', '.join(sorted(known))})"
    )


def _is_optimizer(name: str, candidate: Any) -> bool:
    if name.startswith(("_", "scale_by_")) or not inspect.isfunction(candidate):
        return False
    parameters = inspect.signature(candidate).parameters
    return next(iter(parameters), None) == "learning_rate"
