"""Training that ends with the page about the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax.core.text import Say
from vitjax.report import one_run
from vitjax.tasks import runs


def train(
    config: Any | None,
    workdir: str | Path,
    overrides: Sequence[str] = (),
    say: Say = print,
    *,
    accept_data_change: bool = False,
) -> dict[str, Any]:
    """Trains what a config describes, or resumes it from the newest checkpoint in ``workdir``.

    At the end ``report.html`` is written there, unless ``config.train.report`` is False.

    Args:
        config: as in `vitjax.build`; None resumes the run in ``workdir`` by the config it saved.
        workdir: the run's folder; it is created.
        overrides: ``--config.key=value`` arguments.
        say: receives progress messages.
        accept_data_change: resume although the examples are not those that the run was trained on.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        ConfigError, DataError: as in `vitjax.build`; ``config`` is None and ``workdir`` holds no
            run, or the run there has other classes or was trained on other examples.
        DivergedError: the loss or a gradient is NaN or infinite.
        Interrupted: after SIGTERM or SIGINT, with a checkpoint written.
    """
    return runs.train(
        config,
        workdir,
        overrides,
        say,
        accept_data_change=accept_data_change,
        at_end=one_run.at_end,
    )
