"""The state dict in a file, whatever it is wrapped in: flat names and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vitjax.core.text import near_match, shortened
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import limits
from vitjax.weights.formats.limits import Budget
from vitjax.weights.formats.pickled import Inert, Tensor
from vitjax.weights.formats.pytorch import ReadTensor

# Prefixes of all names that wrappers of a model add, for several devices, compilation or training.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# Keys of the weights in the files of training scripts, which may have other tensors beside them.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "student")
# Beginnings of the keys of what training scripts store beside the weights.
_OTHERS = ("opt", "lr_sched", "sched", "scaler", "grad_scaler", "callback", "loops", "hyper_param")
_LONGEST_OTHER = max(map(len, _OTHERS))
_END = object()


def state_dict(
    tree: Any, read: ReadTensor, part: str | None, budget: Budget
) -> dict[str, np.ndarray]:
    """The tensors of the state dict in ``tree``, by name.

    Training scripts wrap a state dict in other dicts, beside numbers, an optimizer's state and the
    like, which are skipped.

    Args:
        tree: as `pytorch.opened` yields it.
        read: likewise.
        part: which of several state dicts.
        budget: what may be made of the file.

    Raises:
        WeightsError: ``tree`` has no state dict, none named ``part``, or several and ``part`` is
            None.
    """
    found = dict(_state_dicts(tree, "", set()))
    # A callback or a loss may store a few numbers; every network has a matrix or a kernel.
    networks = {name: content for name, content in found.items() if _has_matrix(content)}
    found = networks or found
    if not found:
        raise WeightsError(f"no tensors are in it, only {_described(tree)}")
    if part is None and len(found) > 1:
        raise WeightsError(
            f"has several sets of weights: {shortened(list(found), 20)}; choose one (part=...,"
            f" --part), such as part={next(iter(found))!r}"
        )
    # A part of one of several sets: "model_ema.module".
    inner = [name for name in found if name and part is not None and part.startswith(f"{name}.")]
    beginning = None if part in found else part
    if part is not None and inner and part not in found:
        chosen, beginning = found[max(inner, key=len)], part[len(max(inner, key=len)) + 1 :]
    elif part is not None and part not in found and len(found) > 1:
        raise WeightsError(
            f"has no part {part!r}{near_match(str(part), found)}"
            f" (parts: {shortened([name for name in found if name], 20) or 'none'})"
        )
    else:
        chosen = found[part] if part in found else next(iter(found.values()))
    arrays = {}
    for name, value in _leaves(chosen, budget):
        budget.steps(1)  # a dict may be in any number of others
        if isinstance(value, Tensor):
            arrays[name] = read(value, name)
        elif isinstance(value, Inert) and value.is_array:
            raise WeightsError(
                f"{name} is a pickled NumPy array, not a tensor; save the arrays as .npz or"
                " .safetensors"
            )
    return of_part(arrays, beginning)


def of_part(arrays: Mapping[str, np.ndarray], part: str | None) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``part``, named by the rest; all of them for None.

    Raises:
        WeightsError: no name begins with it.
    """
    if part is None:
        return dict(arrays)
    begins = (f"{part}.", f"{part}/")
    chosen: dict[str, np.ndarray] = {}
    for named in (arrays, without_prefix(arrays)):
        names = [name for name in named if name.startswith(begins)]
        chosen = {name[len(part) + 1 :]: named[name] for name in names}
        if len(chosen) < len(names):
            raise WeightsError(f"has names that begin with {begins[0]!r} and the same with '/'")
        if chosen:
            break
    else:
        parts = list(dict.fromkeys(name.replace("/", ".").split(".")[0] for name in arrays))
        raise WeightsError(
            f"has no part {part!r}{near_match(part, parts)} (parts: {shortened(parts, 20)})"
        )
    return chosen


def without_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``arrays`` without prefixes of wrappers that all names have."""
    arrays = dict(arrays)
    for prefix in _PREFIXES * 2:
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _state_dicts(tree: Any, where: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every outermost dict in ``tree`` that has tensors, with its path."""
    # A dict may be in several others, or in itself.
    if not isinstance(tree, dict) or id(tree) in seen:
        return
    seen.add(id(tree))
    inner = [
        found
        for key, value in tree.items()
        # An optimizer's state has numbers as keys, or an optimizer's name.
        if isinstance(key, str) and not key[:_LONGEST_OTHER].lower().startswith(_OTHERS)
        for found in _state_dicts(value, _path(where, key), seen)
    ]
    wrapped = any(isinstance(tree.get(name), dict) for name in _WRAPPERS)
    if any(isinstance(value, Tensor) for value in tree.values()) and not (wrapped and inner):
        limits.check_name(where)
        yield where, tree
    else:
        yield from inner


def _path(where: str, key: str) -> str:
    """The path of ``key`` in the dict at ``where``; one that cannot be shown does not grow."""
    if not limits.is_name(where):
        return where
    return f"{where}.{key}" if where else key


def _has_matrix(content: dict[str, Any]) -> bool:
    return any(isinstance(x, Tensor) and len(x.shape) > 1 for x in content.values())


def _leaves(tree: dict[Any, Any], budget: Budget) -> Iterator[tuple[str, Any]]:
    """Everything in the dicts and lists of a state dict, by path, in their order.

    A number or a text has no path: there may be many of them.
    """
    waiting: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter(tree.items()))]
    while waiting:
        where, entries = waiting[-1]
        key, value = next(entries, (None, _END))
        if value is _END:
            waiting.pop()
            continue
        inner = isinstance(value, dict | list | tuple) and not isinstance(value, Tensor)
        if not inner and not isinstance(value, Tensor | Inert):
            yield "", value
            continue
        if isinstance(key, Inert):
            if isinstance(value, dict | Tensor):
                raise WeightsError(
                    f"has tensors or dicts under a {key.kind} in {where or 'its state dict'}; names"
                    f" are numbers, or texts of at most {limits.LONGEST_NAME:,} characters"
                )
            continue
        name = budget.name(f"{where}.{key}" if where else str(key))
        yield name, value
        if inner:
            waiting.append((name, iter(_entries(value))))


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value)


def _described(tree: Any) -> str:
    """The content of ``tree`` in a few words."""
    if not isinstance(tree, dict):
        return f"a {_kind(tree)}"
    entries = [f"{_key(key)} ({_kind(value)})" for key, value in [*tree.items()][:9]]
    return shortened(entries, 8) or "an empty dict"


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Inert) else type(value).__name__


def _key(key: Any) -> str:
    return f"a {key.kind}" if isinstance(key, Inert) else repr(key)
