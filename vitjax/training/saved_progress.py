"""The memory of the loop, which a checkpoint keeps as ``progress``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict

from vitjax.core.validation import NonNegativeFloat, NonNegativeInt, check_keywords


@dataclasses.dataclass(frozen=True)
class ClockProgress:
    """What `vitjax.training.profiling.Clock` measured in earlier sessions."""

    seconds: NonNegativeFloat
    steady_steps: NonNegativeInt
    steady_seconds: NonNegativeFloat


class DataChange(TypedDict):
    """An accepted change of the data."""

    step: int
    change: str


@dataclasses.dataclass(frozen=True)
class Progress:
    """The memory of the loop; checkpoints of older versions lack some of it.

    Attributes:
        next_batch: the number of the next training batch.
        clock: the time so far.
        skipped: the images that could not be read, and why.
        stopping_metric: the metric of early stopping that ``best`` is a value of.
        best: its best value.
        evaluations_since_best: the evaluations since then.
        init: the origin of the weights that the run started from.
        data: what the run learns from, see `vitjax.data.identity`.
        data_changes: ``{"step": .., "change": ..}`` where training resumed with other data.
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


def check(progress: Mapping[str, Any]) -> None:
    """Raises ConfigError unless ``progress`` is a `Progress`, which names what is wrong."""
    known = {field.name for field in dataclasses.fields(Progress)}
    own = {key: value for key, value in progress.items() if key in known}
    check_keywords(Progress, own, where="progress")
