"""The format of what a run writes, and the upgrade of configs that older versions wrote.

``workdir.json`` has the format of ``config.json``, and each checkpoint has its own; without them it
is 1. Format 2 differs in keys, transforms and metrics, see ``docs/changes.md``.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping
from typing import Any

FORMAT = 2

# The sources of images with masks in format 1, whose transforms were a set of their own.
_MASKS = ("cells", "masks", "tfds_masks")
# The booleans that `remat` of a model was, as text.
_REMAT = {"false": "none", "true": "full"}


def upgrade(config: Mapping[str, Any], from_format: int) -> dict[str, Any]:
    """A config of an older format, with keys and values that mean the same in `FORMAT`.

    Args:
        config: the config as plain JSON values; it is not changed.
        from_format: its format.
    """
    upgraded: dict[str, Any] = copy.deepcopy(dict(config))
    if from_format < 2:
        data = _section(upgraded, "data")
        for key in ("train_transforms", "eval_transforms"):
            if isinstance(data.get(key), str):
                data[key] = _transforms(data[key], masks=data.get("source") in _MASKS)
        objective = _section(upgraded, "objective")
        if "tasks_at_once" in objective:
            objective["episodes_at_once"] = objective.pop("tasks_at_once")
        stopping = _section(_section(upgraded, "train"), "early_stopping")
        for section, key in ((_section(upgraded, "checkpoint"), "best"), (stopping, "metric")):
            if isinstance(section.get(key), str):
                section[key] = _metric(section[key])
    return current_words(upgraded)


def current_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the words of ``remat`` for the booleans that it was, which still may be given.

    Args:
        config: the config as plain JSON values; it is not changed.
    """
    if not isinstance(config.get("model"), Mapping):
        return dict(config)
    return {**config, "model": _with_remat_words(config["model"])}


def _with_remat_words(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a model; one within it is that of another model."""

    def current(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _with_remat_words(value)
        # An override of text is text.
        return _REMAT.get(str(value).lower(), value) if key == "remat" else value

    return {key: current(key, value) for key, value in section.items()}


def _section(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section to change; a new one where there is none."""
    section = config.get(key)
    return section if isinstance(section, dict) else {}


def metrics(values: Mapping[str, float]) -> dict[str, float]:
    """The evaluation that a checkpoint of any format was saved with, with the names of `FORMAT`."""
    return {_metric(name): value for name, value in values.items()}


def _metric(name: str) -> str:
    """``val/iou_1`` of format 1 is ``val/iou_per_class/1``."""
    return re.sub(r"^(\w+/(?:iou|dice))_(\d+)$", r"\1_per_class/\2", name)


def _transforms(text: str, *, masks: bool) -> str:
    """A pipeline of format 1, unchanged except for what has another name or default now."""
    text = re.sub(r"\brandom_crop\b", "crop", text)
    if not masks:
        return text
    # The parentheses allow line breaks, as the parser of pipelines does.
    wrapped = f"({text}\n)"
    try:
        tree = ast.parse(wrapped, mode="eval")
    except (SyntaxError, ValueError):
        return text  # the data reports it
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        given = len(node.args) > 1 or any(word.arg == "interpolation" for word in node.keywords)
        call = ast.get_source_segment(wrapped, node)
        if node.func.id == "resize" and not given and call is not None:
            inner = call.removesuffix(")").rstrip().removesuffix(",")
            text = text.replace(call, f'{inner}, interpolation="bilinear")')
    return text
