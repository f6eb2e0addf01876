"""Export of a run's model to the formats of other projects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from vitjax import weights
from vitjax.core.paths import expanded
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

    The weights are those that `vitjax predict` uses: the moving average if the run keeps one, with
    LoRA's products merged.

    Args:
        folder: a run's folder.
        format: one of `vitjax.weights.written_formats`.
        output: the file; None for ``weights_<format>`` in the run's folder.
        overrides: as in `vitjax.training.runs.load`.
        checkpoint: as in `vitjax.training.runs.load`.
        say: receives what was loaded.

    Returns:
        The path of the written file.

    Raises:
        WeightsError: the format cannot hold the model.
        WorkdirError, CheckpointError: the folder holds no run, or no such checkpoint.
    """
    weights.check_target(format)
    folder = expanded(folder)
    experiment, placed, _ = runs.load(
        folder, overrides, checkpoint=checkpoint, with_data=False, say=say
    )
    objective = experiment.objective
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
