"""The memory of the loop, which a checkpoint keeps as ``progress``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from vitjax.core.validation import NonNegativeFloat, NonNegativeInt, check_keywords
from vitjax.data.class_order import ClassList


@dataclasses.dataclass(frozen=True)
class ClockProgress:
    """What `vitjax.training.profiling.Clock` measured in earlier sessions."""

    seconds: NonNegativeFloat
    steady_steps: NonNegativeInt
    steady_seconds: NonNegativeFloat
    pauses: Mapping[str, NonNegativeFloat] | None = None


class DataChange(TypedDict):
    """An accepted change of the data."""

    step: int
    change: str


class ClassDigests(TypedDict):
    """What the classes of a run are, in few bytes."""

    names: str
    stored: str  # their values or colours in masks


@dataclasses.dataclass(frozen=True)
class Progress:
    """The memory of the loop; checkpoints of older versions lack some of it.

    Attributes:
        next_batch: the number of the next training batch.
        clock: the time so far.
        skipped: the images that could not be read, and why.
        stopping_metric: the metric of early stopping that ``best`` is a value of.
        best: its best value; of older versions it may be NaN or infinite.
        evaluations_since_best: the evaluations since then.
        init: the origin of the weights that the run started from.
        data: what the run learns from, see `vitjax.data.identity`.
        data_changes: ``{"step": .., "change": ..}`` where training resumed with other data.
        classes: digests of the classes in their order, see `class_digests`.
    """

    next_batch: NonNegativeInt = 0
    clock: ClockProgress | None = None
    skipped: Mapping[str, str] | None = None
    stopping_metric: str | None = None
    best: float | None = None
    evaluations_since_best: NonNegativeInt = 0
    init: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    data_changes: tuple[DataChange, ...] = ()
    classes: ClassDigests | None = None


def check(progress: Mapping[str, Any]) -> None:
    """Raises ConfigError unless ``progress`` is a `Progress`, which names what is wrong."""
    known = {field.name for field in dataclasses.fields(Progress)}
    own = {key: value for key, value in progress.items() if key in known}
    if isinstance(own.get("best"), float):  # of any value
        del own["best"]
    check_keywords(Progress, own, where="progress")


def class_digests(classes: ClassList | None) -> ClassDigests | None:
    """The digests of classes in the order of their numbers; None without classes.

    ``data.json`` gives the outputs of a model their names, and a run that resumes its class
    numbers: a checkpoint tells whether it is still the one that the run wrote.
    """
    if classes is None:
        return None
    stored = None if classes.stored is None else [list(np.atleast_1d(x)) for x in classes.stored]
    return {"names": _digest(classes.names), "stored": _digest(stored)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=int).encode()).hexdigest()[:32]
