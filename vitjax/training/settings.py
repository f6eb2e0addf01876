"""A config's ``init`` and ``train`` sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from vitjax.config import lengths
from vitjax.config.lengths import Run, spellings
from vitjax.core.errors import ConfigError
from vitjax.core.names import Patterns, check_expressions, listed
from vitjax.core.validation import (
    Bounds,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Steps,
    call,
    check_keywords,
    validate_fields,
)
from vitjax.weights.adapting import Interpolation

LENGTHS = ("log_every", "evaluate_every")
# The default number of evaluations of a run over episodes.
_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True)
class Start:
    """The ``init`` section: weights that a new run starts from.

    Attributes:
        from_checkpoint: a file, a name for `vitjax.weights.open_weights`, such as
            ``"hf:timm/vit_small_patch16_224.augreg_in1k"``, or the folder of another run.
        format: the format of a file, if its names do not determine it.
        grid: (rows, columns) of the patches that a file's position embeddings are for.
        part: which of several sets of weights in a file, such as ``"teacher"``.
        position_interpolation: how position embeddings are resized, see
            `vitjax.weights.adapting.resize_positions`; None for the way of the file's project.
        exclude: patterns of parameters that are initialised from scratch.
        ignore: patterns of names in a file whose arrays are left out.
        allow_nonfinite: take weights that are NaN or infinite.
    """

    from_checkpoint: str
    format: str | None = None
    grid: tuple[PositiveInt, PositiveInt] | None = None
    part: str | None = None
    position_interpolation: Interpolation | None = None
    exclude: Patterns = ()
    ignore: Patterns = ()
    allow_nonfinite: bool = False

    def __post_init__(self) -> None:
        check_expressions(listed(self.exclude), "config.init.exclude")
        check_expressions(listed(self.ignore), "config.init.ignore")


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops a run whose validation does not improve.

    Attributes:
        patience: the number of evaluations in a row without an improvement that stops the run.
        metric: the metric that is compared, in the direction that it declares.
        min_delta: an improvement must be larger than this.
    """

    patience: PositiveInt
    metric: str = "val/loss"
    min_delta: NonNegativeFloat = 0.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """The config's ``train`` section, with lengths in steps.

    Attributes:
        evaluate_every: the steps between evaluations on the validation split; by default an epoch,
            or a tenth of the run if the data has no epochs.
        accumulation_steps: the micro-batches per step.
        ema_decay: the decay of the moving average of the weights; None keeps no average.
        log_every: the steps between reports.
        profile_steps: (first, end): steps first to end - 1 are traced; None traces nothing.
        early_stopping: see `EarlyStopping`; None trains to the end.
        report: whether a run that ends writes a page about itself, ``report.html``.
    """

    evaluate_every: Steps
    accumulation_steps: PositiveInt = 1
    ema_decay: Annotated[float, Bounds(above=0, below=1)] | None = None
    log_every: Steps = 50
    profile_steps: tuple[NonNegativeInt, NonNegativeInt] | None = None
    early_stopping: EarlyStopping | None = None
    report: bool = True

    def __post_init__(self) -> None:
        validate_fields(self, "config.train")
        window = self.profile_steps
        if window is not None and not window[0] < window[1]:
            raise ConfigError(
                f"config.train.profile_steps is {window!r}; it must be (first, end), first < end"
            )


def check_train(train: Mapping[str, Any]) -> None:
    """Checks the ``train`` section as far as that is possible without the data.

    Raises:
        ConfigError: an unknown key, or a value that cannot be used.
    """
    where = "config.train"
    units = spellings(LENGTHS)
    check_keywords(Settings, train, where=where, given=LENGTHS, also=["steps", "epochs", *units])
    lengths.check_run(train, where=where)
    lengths.check(train, LENGTHS, where=where)
    own = {key: value for key, value in train.items() if key not in ("steps", "epochs", *units)}
    call(Settings, {"evaluate_every": 1, **own}, where=where)


def train_settings(train: Mapping[str, Any], run: Run) -> Settings:
    """The settings of the ``train`` section, with lengths in steps of ``run``.

    Raises:
        ConfigError: a value that cannot be used.
    """
    arguments = run.resolve(
        {key: value for key, value in train.items() if key not in ("steps", "epochs")},
        LENGTHS,
        where="config.train",
    )
    if run.steps_per_epoch is None:
        arguments.setdefault("evaluate_every", run.steps // _EVALUATIONS)
    else:
        arguments.setdefault("evaluate_every", round(run.steps_per_epoch))
    settings: Settings = call(Settings, positive(arguments, LENGTHS), where="config.train")
    return settings


def positive(section: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``section`` with lengths of at least one step: a shorter period means each step."""
    return section | {key: max(1, section[key]) for key in names if key in section}
