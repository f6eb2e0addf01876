"""Whether a checkpoint belongs to a run: its arrays, and the config keys that may differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vitjax.config.lengths import spellings
from vitjax.config.values import flatten

# Keys that may differ between a checkpoint and the run that resumes from it: paths, reports,
# devices and the length of the run. A new length moves a schedule that depends on it, and pmap
# draws other dropout masks than jit, so differences are reported.
_FREE_SECTIONS = ("checkpoint.", "parallel.", "train.early_stopping.")
_FREE_KEYS = frozenset(
    {
        *("train.steps", "train.epochs", "train.profile_steps", "train.early_stopping"),
        "train.report",
        *(f"train.{key}" for key in spellings(("log_every", "evaluate_every"))),
        *("data.path", "data.data_dir", "data.workers", "data.eval_batch_size", "data.on_corrupt"),
        "imports",  # `vitjax.config.user_code` reports what changed in these files
    }
)
# Keys that may differ as well if the checkpoint is only read: its arrays have to fit, but the data
# and the objective are free.
_FREE_TO_READ = ("data.", "objective.")


def free_changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    read_only: bool = False,
    free_keys: Collection[str] = (),
) -> list[str]:
    """The allowed differences between two configs, one line each.

    Args:
        old: the config of the checkpoint.
        new: the config of the run.
        read_only: whether the checkpoint is only read, which allows more differences.
        free_keys: see `vitjax.training.experiment.Experiment.free_keys`.
    """
    return [
        f"config.{key}: {before!r} -> {after!r}"
        for key, before, after in _differences(old, new)
        if _is_free(key, read_only, free_keys) and key != "imports"
    ]


def conflicts(
    saved_tree: Any,
    tree: Any,
    saved_config: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    read_only: bool,
    free_keys: Collection[str] = (),
) -> str:
    """The first array and the first key by which a checkpoint is not one of this run.

    Args:
        saved_tree: shapes and dtypes of the checkpoint.
        tree: shapes and dtypes of the run's state.
        saved_config: the config of the checkpoint.
        config: the config of the run.
        read_only: whether the checkpoint is only read.
        free_keys: see `vitjax.training.experiment.Experiment.free_keys`.

    Returns:
        The differences in words; empty if there are none.
    """
    problems = []
    there, here = _shapes(saved_tree), _shapes(tree)
    # Parameters first: their names say more than those of the optimizer's copies.
    for name in sorted({*here, *there}, key=lambda n: (not n.startswith("params"), n)):
        if here.get(name) != there.get(name):
            problems.append(
                f"first differing leaf: {name} is {there.get(name, 'absent')} there and"
                f" {here.get(name, 'absent')} here"
            )
            break
    for key, before, after in _differences(saved_config, config):
        if not _is_free(key, read_only, free_keys):
            problems.append(f"config.{key} is {before!r} there and {after!r} here")
            break
    return "; ".join(problems)


def other_outputs(saved_tree: Any, tree: Any, head_pattern: str) -> tuple[int, int] | None:
    """The outputs of the head in a checkpoint and in a run, if no other parameters differ.

    Args:
        saved_tree: as in `conflicts`.
        tree: as in `conflicts`.
        head_pattern: matches the names of the head's parameters within the model's.
    """
    there, here = _sizes(saved_tree), _sizes(tree)
    different = [
        name
        for name in {*there, *here}
        if name.startswith("params/") and there.get(name) != here.get(name)
    ]
    found = set()
    for name in different:
        own = name.removeprefix("params/").removeprefix("model/")
        if name not in there or name not in here or not re.search(head_pattern, own):
            return None
        *inputs, outputs = there[name]
        *same_inputs, same_outputs = here[name]
        if inputs != same_inputs:
            return None
        found.add((outputs, same_outputs))
    return found.pop() if len(found) == 1 else None


def _is_free(key: str, read_only: bool, free_keys: Collection[str]) -> bool:
    """Whether a run may differ from its checkpoint in ``key``."""
    # With the dot, an empty section or None is as free as its keys.
    free = key in _FREE_KEYS or key in free_keys or f"{key}.".startswith(_FREE_SECTIONS)
    return free or (read_only and f"{key}.".startswith(_FREE_TO_READ))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two configs differ, in order, with both values."""
    before, after = flatten(dict(old)), flatten(dict(new))
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        both_nan = one != one and other != other
        if one != other and not both_nan:
            yield key, before.get(key, "not set"), after.get(key, "not set")


def _shapes(tree: Any) -> dict[str, str]:
    """Name -> "float32 (3, 3, 16, 32)" of each array in ``tree``."""
    return {
        name: f"{np.dtype(leaf.dtype).name} {tuple(leaf.shape)}"
        for name, leaf in _leaves(tree).items()
    }


def _sizes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each array in ``tree`` that has an axis."""
    return {name: tuple(leaf.shape) for name, leaf in _leaves(tree).items() if leaf.shape}


def _leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
