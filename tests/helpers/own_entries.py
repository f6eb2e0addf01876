"""The entries of a registry that are vitjax's: other tests of the process register their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitjax.core.registry import Registry


def own_entries(registry: Registry[Any]) -> dict[str, Callable[..., Any]]:
    """The constructors of modules of `vitjax`, by name."""
    found = {name: registry[name] for name in registry}
    return {
        name: constructor
        for name, constructor in found.items()
        if getattr(constructor, "func", constructor).__module__.startswith("vitjax.")  # a partial's
    }
