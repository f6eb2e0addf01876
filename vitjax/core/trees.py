"""Names and sizes of the leaves of a pytree."""

from __future__ import annotations

from typing import Any

import jax


def parameter_names(params: Any) -> list[str]:
    """The names of all leaves of ``params``, in the order of `jax.tree.leaves`."""
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in _paths(params)]


def _paths(params: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(params)[0]


def count_parameters(params: Any) -> int:
    """The number of scalars in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
