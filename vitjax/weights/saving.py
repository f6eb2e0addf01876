"""A model's variables to files of weights, under anybody's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.core.text import near_match
from vitjax.models.protocol import Model
from vitjax.weights import notes, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, onnx
from vitjax.weights.layouts import LAYOUTS, Layout
from vitjax.weights.loading import flat, grid_keyword
from vitjax.weights.opening import OWN

# Not a layout of arrays but a graph, which is only written.
ONNX = "onnx"


def save(
    variables: Mapping[str, Any],
    model: Model,
    path: str | Path,
    format: str = OWN,
    *,
    input_shape: Sequence[int] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes a model's variables under another project's names, or under the house's own.

    Args:
        variables: ``{"params": ..., "batch_stats": ...}``.
        model: the module that they are for.
        path: the file; its suffix (.npz, .safetensors, .pth, .pt, .bin) says in which container,
            and one without a suffix gets the format's usual one.
        format: one of `written_formats`.
        input_shape: (height, width, channels) of the model's examples; (features,) where an MLP
            takes vectors. It is noted in the file beside the model's fields, so that the file tells
            all that is needed to use it; and it is needed for ``"onnx"`` and where the format keeps
            positions that the model computes.
        say: is told what of the model the format has no place for, and where the other project has
            it otherwise unless it is told.

    Returns:
        The path that was written.

    Raises:
        WeightsError: the format cannot hold this model, or it cannot be written there.
    """
    path = Path(path)
    check_target(format)
    if not path.name:
        raise WeightsError(f"{str(path)!r} names no file to write the weights to")
    if input_shape is not None:
        axes = 1 if 1 in model.input_ranks and np.size(input_shape) == 1 else 3
        input_shape = sizes.whole(input_shape, axes, "input_shape=(height, width, channels)")
    if format == ONNX:
        if input_shape is None:
            raise WeightsError("format 'onnx' wants the shape of an example: input_shape=(h, w, c)")
        path = path if path.suffix else path.with_suffix(".onnx")
        onnx.write(variables, model, path, input_shape)
        return path
    variables = model.unstack(variables)
    ours = {name: np.asarray(leaf) for name, leaf in flat(variables).items()}
    metadata = {notes.KEY: notes.text(model, input_shape)}
    if format == OWN:
        path = path if path.suffix else path.with_suffix(".safetensors")
        files.write(path, ours, metadata=metadata)
        return path
    layout = _layout_for(model, format)
    theirs: dict[str, np.ndarray] = {}
    left = dict(ours)
    grid = None if input_shape is None else model.patch_grid(input_shape)
    try:
        entries = layout.entries(model, None, **grid_keyword(grid))
    except WeightsError as error:
        raise WeightsError(f"format {format!r}: {error}") from error
    for entry in entries:
        lacking = [name for name in entry.ours if name not in ours]
        if lacking and entry.optional:
            continue
        if lacking:
            raise WeightsError(f"format {format!r}: the variables lack {', '.join(lacking)}")
        values = entry.write(*(left.pop(name) for name in entry.ours))
        theirs |= {n: np.ascontiguousarray(v) for n, v in zip(entry.theirs, values, strict=True)}
    if left:
        raise WeightsError(
            f"format {format!r} ({layout.source}) has no place for {', '.join(sorted(left))}"
        )
    path = path if path.suffix else path.with_suffix(layout.suffix)
    files.write(path, theirs, metadata=metadata)
    for words in layout.differs(model):
        say(f"{path}: {words}")
    return path


def written_formats() -> tuple[str, ...]:
    """The names of all formats that `save` knows, the house's own first."""
    return tuple(dict.fromkeys((OWN, *(each.name for each in LAYOUTS if each.writes), ONNX)))


def check_target(format: str) -> None:
    """Raises WeightsError unless there is such a format to write."""
    if format not in written_formats():
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, written_formats())}"
            f" (these are written: {', '.join(written_formats())})"
        )


def _layout_for(model: Model, format: str) -> Layout:
    """The layout of this name that holds such modules."""
    fitting = [layout for layout in LAYOUTS if isinstance(model, layout.modules) and layout.writes]
    for layout in fitting:
        if layout.name == format:
            return layout
    others = ", ".join(dict.fromkeys((OWN, *(layout.name for layout in fitting), ONNX)))
    raise WeightsError(
        f"format {format!r} is not written for a {type(model).__name__}; these are: {others}"
    )
