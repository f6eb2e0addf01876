"""From what a file holds to the one state dict in it: flat names and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.registry import near_match
from vitjax.weights.errors import WeightsError
from vitjax.weights.torch_files import Inert, ReadTensor, Tensor

# What wrappers of a model (for several devices, for compilation) put before every name.
_PREFIXES = ("module.", "_orig_mod.")
# Where training scripts keep the weights, beside which tensors of another purpose may stand.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "student")
# A state dict has thousands; a pickle of a few bytes can be made to seem to have endless ones.
_MOST_ENTRIES = 10**6


def state_dict(tree: Any, read: ReadTensor, path: Path, part: str | None) -> dict[str, np.ndarray]:
    """The tensors of the state dict in ``tree``, by name.

    A state dict may lie in other dicts, as training scripts write them, beside numbers, an
    optimizer's state and the like, which are passed over.

    Args:
        tree: what `torch_files.opened` yields.
        read: likewise.
        path: of the file, for errors.
        part: which state dict is meant, where there are several.

    Raises:
        WeightsError: there is none, none that is called ``part``, or several and no ``part``.
    """
    found = dict(_state_dicts(tree, "", set()))
    if not found:
        raise WeightsError(f"{path}: no tensors are in it, only {_described(tree)}")
    if part is None and len(found) > 1:
        raise WeightsError(
            f"{path}: holds several sets of weights: {', '.join(found)}; say which is meant, as"
            f" part={next(iter(found))!r}"
        )
    if part is not None and part not in found:
        raise WeightsError(
            f"{path}: has no part {part!r}{near_match(part, found)}"
            f" (parts: {', '.join(name for name in found if name) or 'none'})"
        )
    chosen = found[next(iter(found)) if part is None else part]
    arrays = {}
    for count, (name, value) in enumerate(_leaves(chosen, "")):
        if count > _MOST_ENTRIES:
            raise WeightsError(f"{path}: refused: more than {_MOST_ENTRIES:,} entries are in it")
        if isinstance(value, Tensor):
            arrays[name] = read(value, name)
        elif isinstance(value, Inert) and "_reconstruct" in type(value).__name__:
            raise WeightsError(
                f"{path}: {name} is a pickled NumPy array, not a tensor; save the arrays as .npz or"
                " .safetensors"
            )
    return arrays


def without_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``arrays`` without what wrappers put before all names."""
    arrays = dict(arrays)
    for prefix in _PREFIXES * 2:
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _state_dicts(tree: Any, where: str, seen: set[int]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every outermost dict in ``tree`` that has tensors, with the names that lead to it."""
    # A dict may lie in several others, or in itself.
    if not isinstance(tree, Mapping) or id(tree) in seen:
        return
    seen.add(id(tree))
    inner = [
        found
        for key, value in tree.items()
        # An optimizer's state is kept under numbers, or under an optimizer's name.
        if isinstance(key, str) and not key.startswith("optim")
        for found in _state_dicts(value, f"{where}.{key}" if where else key, seen)
    ]
    wrapped = any(isinstance(tree.get(name), Mapping) for name in _WRAPPERS)
    if any(isinstance(value, Tensor) for value in tree.values()) and not (wrapped and inner):
        yield where, tree
    else:
        yield from inner


def _leaves(tree: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Everything in ``tree`` that is neither dict nor list, by its names joined with dots."""
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list | tuple) and not isinstance(tree, Tensor):
        items = enumerate(tree)
    else:
        yield where, tree
        return
    for key, value in items:
        yield from _leaves(value, f"{where}.{key}" if where else str(key))


def _described(tree: Any) -> str:
    """What ``tree`` holds, for a person who expected weights."""
    if not isinstance(tree, Mapping):
        return f"a {type(tree).__name__}"
    entries = [f"{key!r} ({type(value).__name__})" for key, value in list(tree.items())[:8]]
    return ", ".join(entries) + (", ..." if len(tree) > 8 else "") or "an empty dict"
