"""A config's ``init`` and ``train`` sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vitjax.config.lengths import Run
from vitjax.core.errors import ConfigError
from vitjax.core.names import Patterns, check_expressions, listed
from vitjax.core.validation import call, check_choice
from vitjax.weights.adapting import INTERPOLATIONS

LENGTHS = ("log_every", "evaluate_every")
# Of a run over episodes, where the config does not say how often.
_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True)
class Start:
    """The ``init`` section: weights that a new run starts from.

    Attributes:
        from_checkpoint: a file, a name that `vitjax.weights.open_weights` knows, such as
            ``"hf:timm/vit_small_patch16_224.augreg_in1k"``, or the folder of another run.
        format: of a file, where its names do not tell whose they are.
        grid: of a file, (rows, columns) of the patches that its position embeddings are for.
        part: which of several sets of weights in a file, such as ``"teacher"``.
        position_interpolation: how position embeddings are resized: ``"bicubic"``, as timm does it,
            or ``"bilinear"``, as ViT's published code does.
        exclude: patterns of parameters that start anew all the same.
    """

    from_checkpoint: str
    format: str | None = None
    grid: Sequence[int] | None = None
    part: str | None = None
    position_interpolation: str = "bicubic"
    exclude: Patterns = ()

    def __post_init__(self) -> None:
        check_expressions(listed(self.exclude), "config.init.exclude")
        check_choice(
            "config.init.position_interpolation", self.position_interpolation, INTERPOLATIONS
        )
        grid = self.grid
        if grid is not None and not (len(grid) == 2 and all(isinstance(n, int) for n in grid)):
            raise ConfigError(f"config.init.grid is {grid!r}; it should be (rows, columns)")


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops a run whose validation no longer gets better.

    Attributes:
        patience: how many evaluations in a row may be no better than the best before.
        metric: the metric that counts; whether it should fall, `checkpoints.sign` says.
        min_delta: how much better counts as better.
    """

    patience: int
    metric: str = "val/loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(
                f"config.train.early_stopping.patience is {self.patience}; it should be at least 1"
            )


@dataclasses.dataclass(frozen=True)
class Settings:
    """The config's ``train`` section, with lengths in steps.

    Attributes:
        evaluate_every: steps between evaluations on the validation split; where the config does
            not say, an epoch, or a tenth of a run whose data know no epoch.
        accumulation_steps: micro-batches per step.
        ema_decay: decay of the moving average of the weights; None keeps none.
        log_every: steps between reports.
        profile_steps: (first, end): steps first to end - 1 are traced; None: none.
        early_stopping: None: train to the end.
    """

    evaluate_every: int
    accumulation_steps: int = 1
    ema_decay: float | None = None
    log_every: int = 50
    profile_steps: tuple[int, int] | None = None
    early_stopping: EarlyStopping | None = None


def train_settings(train: Mapping[str, Any], run: Run) -> Settings:
    """The ``train`` section's settings, in steps of ``run``.

    Raises:
        ConfigError: a value that cannot be used.
    """
    arguments = run.resolve(
        {key: value for key, value in train.items() if key not in ("steps", "epochs")},
        LENGTHS,
        where="config.train",
    )
    rule = arguments.get("early_stopping")
    if rule is not None:
        if not isinstance(rule, dict):
            raise ConfigError(
                f"config.train.early_stopping is {rule!r}; it should be a section of keys"
            )
        arguments["early_stopping"] = call(EarlyStopping, rule, where="config.train.early_stopping")
    window = arguments.get("profile_steps")
    if window is not None:
        if not (isinstance(window, list) and len(window) == 2 and 0 <= window[0] < window[1]):
            raise ConfigError(
                f"config.train.profile_steps is {window!r}; it should be (first, end) in steps"
            )
        arguments["profile_steps"] = tuple(window)
    decay = arguments.get("ema_decay")
    if decay is not None and not 0 < decay < 1:
        raise ConfigError(f"config.train.ema_decay is {decay!r}; it should lie between 0 and 1")
    accumulation = arguments.get("accumulation_steps", 1)
    if not isinstance(accumulation, int) or accumulation < 1:
        raise ConfigError(
            f"config.train.accumulation_steps is {accumulation!r}; not a whole number >= 1"
        )
    if run.steps_per_epoch is None:
        arguments.setdefault("evaluate_every", run.steps // _EVALUATIONS)
    else:
        arguments.setdefault("evaluate_every", round(run.steps_per_epoch))
    return Settings(**positive(arguments, LENGTHS))


def positive(section: dict[str, Any], lengths: Iterable[str]) -> dict[str, Any]:
    """``section`` with lengths of at least one step: a period of less than one means every step."""
    return section | {key: max(1, section[key]) for key in lengths if key in section}
