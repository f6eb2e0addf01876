"""A model under another project's names, and the call of that project's code that makes it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vitjax.models.protocol import Model
from vitjax.weights import adapting
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import LAYOUTS, Layout
from vitjax.weights.layouts.target import Construction, Folded, Written
from vitjax.weights.opening import OWN

# A graph and no layout of arrays; it is only written.
ONNX = "onnx"


def layout_for(model: Model, format: str) -> Layout:
    """The layout of this name that stores such modules.

    Raises:
        WeightsError: no layout of this name does.
    """
    fitting = [layout for layout in LAYOUTS if isinstance(model, layout.modules) and layout.writes]
    for layout in fitting:
        if layout.name == format:
            return layout
    others = ", ".join(dict.fromkeys((OWN, *(layout.name for layout in fitting), ONNX)))
    raise WeightsError(
        f"format {format!r} cannot store a {type(model).__name__}; possible: {others}"
    )


def made_by(
    layout: Layout,
    model: Model,
    arrays: dict[str, np.ndarray],
    input_shape: Sequence[int] | None,
) -> tuple[Folded, Construction]:
    """The network that a project's code can make of a model, and the call that makes it.

    Args:
        layout: one of the project's that are written.
        model: the module.
        arrays: its variables under vitjax's names.
        input_shape: (height, width, channels) of an example; None if unknown.

    Raises:
        WeightsError: the code makes no such network. The message lists the formats that can hold
            it.
    """
    try:
        return _made_by(layout, model, arrays, input_shape)
    except WeightsError as error:
        possible = [OWN]
        for other in LAYOUTS:
            if isinstance(model, other.modules) and other.writes and other is not layout:
                with contextlib.suppress(WeightsError):
                    _made_by(other, model, arrays, input_shape)
                    possible.append(other.name)
        raise WeightsError(
            f"format {layout.name!r}: {error}; formats that can hold this {type(model).__name__}:"
            f" {', '.join((*possible, ONNX))}"
        ) from error


def _made_by(
    layout: Layout,
    model: Model,
    arrays: dict[str, np.ndarray],
    input_shape: Sequence[int] | None,
) -> tuple[Folded, Construction]:
    if layout.target is None:
        raise WeightsError(f"format {layout.name!r} is only read")
    folded = layout.fold(model, arrays)
    height: int | None
    width: int | None
    if input_shape is None:
        height, width = _sides(model, arrays)
        channels = adapting.channels_of(type(model), arrays) or 3
    else:
        height, width, channels = input_shape
    made = layout.target(folded.module, Written(height, width, channels, folded.arrays))
    return folded, dataclasses.replace(made, remarks=(*folded.remarks, *made.remarks))


def _sides(model: Model, arrays: Mapping[str, np.ndarray]) -> Sequence[int | None]:
    """(height, width) of the images that learned positions are for."""
    positions = arrays.get(f"params/{model.position_embedding}")
    kernel = arrays.get(f"params/{model.patch_kernel}")
    if positions is None or kernel is None:
        return None, None
    rows, columns = positions.shape[1:3]
    return rows * kernel.shape[0], columns * kernel.shape[1]


def renamed(
    arrays: Mapping[str, np.ndarray],
    model: Model,
    layout: Layout,
    input_shape: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """A project's arrays from those under vitjax's names.

    Whether the project's code makes such a network is not checked; see `made_by`.

    Args:
        arrays: of the model, under vitjax's names.
        model: the module.
        layout: one of the project's.
        input_shape: as in `made_by`.

    Raises:
        WeightsError: the layout has no place for an array, or an array is missing.
    """
    theirs: dict[str, np.ndarray] = {}
    left = dict(arrays)
    grid = None if input_shape is None else model.patch_grid(input_shape)
    try:
        for entry in layout.entries_at(model, None, grid):
            lacking = [name for name in entry.ours if name not in arrays]
            if lacking and entry.optional:
                continue
            if lacking:
                raise WeightsError(f"the variables lack {', '.join(lacking)}")
            values = entry.write(*(left.pop(name) for name in entry.ours))
            pairs = zip(entry.theirs, values, strict=True)
            theirs |= {name: np.ascontiguousarray(value) for name, value in pairs}
    except WeightsError as error:
        raise WeightsError(f"format {layout.name!r}: {error}") from error
    if left:
        raise WeightsError(
            f"format {layout.name!r} ({layout.source}) has no place for {', '.join(sorted(left))}"
        )
    return theirs
