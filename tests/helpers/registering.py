"""Takes back what tests register, and the files of a user that they import."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Leaves the process at its end as one that has not seen the names and files met inside it.

    What vitjax itself registers or replaces meanwhile stays: its modules are imported once.
    """
    before = {(id(registry), name) for registry in registries() for name in registry._origins}
    files = user_files()
    try:
        yield
    finally:
        for registry in registries():
            for name, (module, _) in list(registry._origins.items()):
                if (id(registry), name) not in before and not module.startswith("vitjax."):
                    del registry._constructors[name], registry._facts[name], registry._origins[name]
        for name in user_files() - files:
            del sys.modules[name]


def registries() -> list[Any]:
    """The registries of the modules of vitjax that are imported."""
    found = sys.modules.get("vitjax.core.registry")
    if found is None:
        return []
    modules = [module for name, module in sys.modules.items() if name.startswith("vitjax.")]
    values = {id(v): v for module in modules for v in vars(module).values()}
    return [value for value in values.values() if isinstance(value, found.Registry)]


def user_files() -> set[str]:
    """The modules made of the files that configs import."""
    found = sys.modules.get("vitjax.config.user_code")
    return set() if found is None else {n for n in sys.modules if n.startswith(found.PACKAGE)}
