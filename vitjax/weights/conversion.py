"""From one project's file to another's, without a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vitjax.models.protocol import Model
from vitjax.weights.loading import fit
from vitjax.weights.modules import module_with
from vitjax.weights.opening import OWN, open_weights
from vitjax.weights.saving import check_target, save


@dataclasses.dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Attributes:
        read_as: the format of the file that was read.
        module: the model that its weights are for.
        parameters: how many trained scalars it has.
        input_shape: (height, width, channels) of the model's examples.
        path: the file that was written.
    """

    read_as: str
    module: Model
    parameters: int
    input_shape: tuple[int, ...]
    path: Path


def convert(
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    format: str = OWN,
    read_as: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    image_size: int | Sequence[int] | None = None,
    position_interpolation: str = "bicubic",
    fields: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Converted:
    """Reads a file of weights and writes it in another format.

    Args:
        source: a path, or ``"hf:..."`` and the like, see `vitjax.weights.fetch.fetching.local`.
        output: the file to write, see `vitjax.weights.save`.
        model: one of `vitjax.models.names`; None for what the file tells.
        format: what is written, one of `vitjax.weights.written_formats`.
        read_as: what is read, one of `vitjax.weights.formats`, where names do not tell.
        grid: (rows, columns) of patches of position embeddings that are for no square.
        part: which of several sets of weights in one file.
        image_size: of images to come, for which positions are resized: pixels on a side, or
            (height, width).
        position_interpolation: as in `vitjax.weights.load`.
        fields: of the model, that shapes do not tell: ``{"num_heads": 6}``.
        say: is told what was guessed, changed or left out.

    Raises:
        ConfigError: there is no such model or field, or the field has no such value.
        WeightsError: it cannot be read, does not fit the model, or cannot be written so.
    """
    check_target(format)
    weights = open_weights(source, format=read_as, grid=grid, part=part, say=say)
    module = module_with(weights, model, fields or {}, say)
    variables = fit(
        weights,
        module,
        image_size=image_size,
        position_interpolation=position_interpolation,
        say=say,
    )
    shape = weights.shape_at(image_size)
    path = save(variables, module, output, format, input_shape=shape, say=say)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return Converted(weights.format, module, count, shape, path)
