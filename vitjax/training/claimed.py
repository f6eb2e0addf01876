"""The depth that a run's config claims, compared with its checkpoints before a model is traced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitjax import models
from vitjax.models import counting
from vitjax.training import workdir

# Orbax's list of the arrays in a checkpoint.
_LIST = Path("state/_METADATA")


def check_layers(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks that the newest checkpoint has the blocks that a deep model of the config has.

    Tracing such a model takes minutes, and it would then be refused as another one. Whatever cannot
    be read here is left to those who read it later.

    Args:
        folder: of the run.
        config: its config, as plain sections.

    Raises:
        WorkdirError: the checkpoint has fewer.
    """
    section = config.get("model")
    if not isinstance(section, Mapping) or section.get("name") not in models.names():
        return
    try:
        fields = {key: value for key, value in section.items() if key != "name"}
        model = models.create(section["name"], **fields)
    except (TypeError, ValueError):  # building the model reports it, with the key
        return
    if not counting.is_deep(model):
        return
    names = _names(folder / workdir.CHECKPOINTS)
    for part in (model, *([model.backbone[1]] if model.backbone is not None else [])):
        for field, pattern in part.counted_layers.items():
            claimed, found = part.layer_counts()[field], sum(counting.named_layers(pattern, names))
            total = sum(claimed) if isinstance(claimed, tuple) else claimed
            if 0 < found < total:
                raise workdir.WorkdirError(
                    f"{folder / workdir.CONFIG}: {field} of config.model is {claimed!r}, but the"
                    f" checkpoint has {found} blocks"
                )


def _names(directory: Path) -> list[str]:
    """The names of the parameters in the newest checkpoint; empty if they cannot be read."""
    try:
        steps = [int(entry.name) for entry in directory.iterdir() if entry.name.isdecimal()]
        listed = json.loads((directory / str(max(steps)) / _LIST).read_bytes())["tree_metadata"]
        paths = [[str(key["key"]) for key in leaf["key_metadata"]] for leaf in listed.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return ["/".join(path) for path in paths if path[:1] == ["params"]]
