"""A run's model for other projects' tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from vitjax import weights
from vitjax.training import runs


def export(
    folder: str | Path,
    format: str,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes a run's model in another project's format.

    What is written is what `vitjax predict` would use: the moving average of the weights where the
    run keeps one, with what was learned beside them, such as LoRA's products, added up.

    Args:
        folder: a run's folder.
        format: one of `vitjax.weights.written_formats`.
        output: the file; None for ``weights_<format>`` in the run's folder.
        overrides: as in `vitjax.training.runs.load`.
        checkpoint: as in `vitjax.training.runs.load`.
        say: is told what was loaded.

    Returns:
        The file that was written.

    Raises:
        WeightsError: the format cannot hold the model.
        WorkdirError, CheckpointError: there is no run, or no checkpoint.
    """
    weights.check_target(format)
    # Its devices may not be here.
    experiment, placed, _ = runs.load(
        folder,
        ["--config.parallel=None", *overrides],
        checkpoint=checkpoint,
        with_data=False,
        say=say,
    )
    objective: Any = experiment.objective
    variables = objective.unwrap(experiment.parallel.to_host(placed))
    example = jax.eval_shape(objective.inputs, experiment.data.example_batch())
    return weights.save(
        variables,
        objective.model,
        Path(folder) / f"weights_{format}" if output is None else output,
        format,
        input_shape=example.shape[1:],
        say=say,
    )
