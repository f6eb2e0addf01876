"""From a model's variables, or from another file, to files under any project's names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.core.paths import expanded
from vitjax.core.text import near_match
from vitjax.models.protocol import Model
from vitjax.weights import naming, notes, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, onnx
from vitjax.weights.layouts import LAYOUTS, Layout
from vitjax.weights.loading import fit, flat
from vitjax.weights.opening import OWN, module_with, open_weights, read_formats, usual_size

# A graph and no layout of arrays; it is only written.
ONNX = "onnx"


@dataclasses.dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Attributes:
        read_as: the format of the file that was read.
        module: the model.
        parameters: the number of scalars in its parameters.
        input_shape: (height, width, channels) of its examples, or (features,).
        path: the file that was written; None if none was to be written.
        named: the registered model that is nearest to the network, if any is of its class.
    """

    read_as: str
    module: Model
    parameters: int
    input_shape: tuple[int, ...]
    path: Path | None
    named: naming.Named | None


def save(
    variables: Mapping[str, Any],
    model: Model,
    path: str | Path,
    format: str = OWN,
    *,
    input_shape: Sequence[int] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes a model's variables under another project's names, or under vitjax's own.

    Args:
        variables: ``{"params": ..., "batch_stats": ...}``.
        model: their module.
        path: the file; its suffix (.npz, .safetensors, .pth, .pt, .bin) selects the container, and
            without one the format's usual suffix is added.
        format: one of `written_formats`.
        input_shape: (height, width, channels) of the model's examples; (features,) for a model that
            takes vectors. It is stored in the file beside the model's fields, so that the file is
            complete; ``"onnx"`` and formats that store positions which the model computes need it.
        say: receives the options with which the other project's code must be called to compute the
            same.

    Returns:
        The path of the file.

    Raises:
        WeightsError: the format cannot store this model, or the file cannot be written.
    """
    path = Path(expanded(path))
    check_target(format)
    if not path.name:
        raise WeightsError(f"{str(path)!r} is no name of a file to write the weights to")
    if input_shape is not None:
        axes = 1 if 1 in model.input_ranks and np.size(input_shape) == 1 else 3
        input_shape = sizes.whole(input_shape, axes, "input_shape=(height, width, channels)")
    if format == ONNX:
        if input_shape is None:
            raise WeightsError("format 'onnx' needs the shape of an example: input_shape=(h, w, c)")
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
        entries = layout.entries_at(model, None, grid)
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


def convert(
    source: str | Path,
    output: str | Path | None,
    *,
    model: str | None = None,
    format: str = OWN,
    read_as: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    ignore: Sequence[str] = (),
    image_size: int | Sequence[int] | None = None,
    position_interpolation: str | None = None,
    allow_nonfinite: bool = False,
    fields: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Converted:
    """Reads a file of weights and writes it in another format.

    Args:
        source: a path, or a name such as ``"hf:..."``, see `vitjax.weights.fetch.fetching.local`.
        output: the file to write, see `save`; None reads and checks the source only.
        model: one of `vitjax.models.names`; None for what the file says.
        format: of the output, one of `written_formats`.
        read_as: of the source, one of `vitjax.weights.read_formats`; None recognises it.
        grid: (rows, columns) of patches of position embeddings; None for a square.
        part: which of several sets of weights in one file.
        ignore: regular expressions of names in the file; their arrays are left out.
        image_size: pixels on a side, or (height, width), for which position embeddings are resized;
            None keeps them.
        position_interpolation: as in `vitjax.weights.load`.
        allow_nonfinite: likewise.
        fields: of the model, such as ``{"num_heads": 6}``.
        say: receives what is assumed, changed or skipped.

    Raises:
        ConfigError: the model, a field or its value is unknown.
        WeightsError: the source cannot be read or does not fit the model, or the output cannot be
            written.
    """
    check_target(format)
    size = usual_size(model, image_size)
    weights = open_weights(
        source, format=read_as, grid=grid, image_size=size, part=part, ignore=ignore, say=say
    )
    module = module_with(weights, model, fields or {}, say)
    variables = fit(
        weights,
        module,
        image_size=image_size,
        position_interpolation=position_interpolation,
        allow_nonfinite=allow_nonfinite,
        say=say,
    )
    shape = weights.shape_at(image_size)
    path = None
    if output is not None:
        path = save(variables, module, output, format, input_shape=shape, say=say)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return Converted(weights.format, module, count, shape, path, naming.nearest(module))


def written_formats() -> tuple[str, ...]:
    """The names of all formats that `save` writes, vitjax's own first."""
    return tuple(dict.fromkeys((OWN, *(each.name for each in LAYOUTS if each.writes), ONNX)))


def check_target(format: str) -> None:
    """Raises WeightsError unless ``format`` is one of `written_formats`."""
    if format not in written_formats():
        near = near_match(format, written_formats())
        what = f"unknown format {format!r}{near}"
        if format in read_formats():
            what = f"format {format!r} is only read"
        raise WeightsError(f"{what} (written: {', '.join(written_formats())})")


def _layout_for(model: Model, format: str) -> Layout:
    """The layout of this name that stores such modules."""
    fitting = [layout for layout in LAYOUTS if isinstance(model, layout.modules) and layout.writes]
    for layout in fitting:
        if layout.name == format:
            return layout
    others = ", ".join(dict.fromkeys((OWN, *(layout.name for layout in fitting), ONNX)))
    raise WeightsError(
        f"format {format!r} cannot store a {type(model).__name__}; possible: {others}"
    )
