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
from vitjax.weights import describing, naming, notes, sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import files, onnx
from vitjax.weights.layouts import LAYOUTS
from vitjax.weights.loading import fit, flat
from vitjax.weights.opening import OWN, module_with, open_weights, read_formats, usual_size
from vitjax.weights.preprocessing import Preprocessing
from vitjax.weights.writing import ONNX, layout_for, made_by, renamed


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
    preprocessing: Preprocessing | None = None,
    opset: int | None = None,
    any_size: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes a model's variables under another project's names, or under vitjax's own.

    For a format of another project, a program beside the file, ``load_<file>.py``, has the call of
    the project's code that makes the network, and loads the file. A network that this code cannot
    make is refused.

    Args:
        variables: ``{"params": ..., "batch_stats": ...}``.
        model: their module.
        path: the file; its suffix (.npz, .safetensors, .pth, .pt, .bin) selects the container, and
            without one the format's usual suffix is added.
        format: one of `written_formats`.
        input_shape: (height, width, channels) of the model's examples; (features,) for a model that
            takes vectors. It is stored in the file beside the model's fields, so that the file is
            complete; ``"onnx"`` and formats that store positions need it. None for that of
            ``preprocessing``, or where learned positions show it.
        preprocessing: written beside the file as ``preprocess.json``, into an ONNX graph, and for
            timm as ``config.json``, which ``timm.create_model("local-dir:FOLDER")`` reads.
        opset: of an ONNX graph; None for `vitjax.weights.formats.onnx.OPSET`.
        any_size: of an ONNX graph: whether it accepts images of any height and width.
        say: receives the call of the other project's code, and what else its users have to know.

    Returns:
        The path of the file.

    Raises:
        WeightsError: the format cannot store this model, the project's code makes no such network,
            a file of another model would be replaced, or the file cannot be written.
    """
    path = Path(expanded(path))
    check_target(format)
    if path.name in ("", ".."):
        raise WeightsError(f"{str(path)!r} is no name of a file to write the weights to")
    if format != ONNX and (opset is not None or any_size):
        raise WeightsError(f"opset and any_size are options of format 'onnx', not {format!r}")
    shape = _stated(model, input_shape, preprocessing)
    if format == ONNX:
        if shape is None:
            raise WeightsError("format 'onnx' needs the shape of an example: input_shape=(h, w, c)")
        path = path if path.suffix else path.with_suffix(".onnx")
        entry = describing.entry(variables, model, shape, ONNX, any_size=any_size)
        describing.check(path, preprocessing)
        metadata = describing.graph_metadata(preprocessing, entry)
        metadata[notes.KEY] = notes.text(model, shape)
        opset = onnx.OPSET if opset is None else opset
        onnx.write(variables, model, path, shape, opset=opset, any_size=any_size, metadata=metadata)
        describing.write(path, preprocessing, entry, say)
        return path
    ours = {name: np.asarray(leaf) for name, leaf in flat(model.unstack(variables)).items()}
    if format == OWN:
        path = path if path.suffix else path.with_suffix(".safetensors")
        describing.check(path, preprocessing)
        files.write(path, ours, metadata={notes.KEY: notes.text(model, shape)})
        if preprocessing is not None and shape is not None:
            entry = describing.entry(variables, model, shape, OWN)
            describing.write(path, preprocessing, entry, say)
        return path
    layout = layout_for(model, format)
    folded, construction = made_by(layout, model, ours, shape)
    theirs = renamed(folded.arrays, folded.module, layout, shape)
    path = path if path.suffix else path.with_suffix(layout.suffix)
    config: dict[str, Any] | None = None
    remarks: list[str] = []
    if layout.config is not None and preprocessing is not None:
        config, remarks = layout.config(construction, folded.module, preprocessing)
    describing.check(path, preprocessing, config)
    files.write(path, theirs, metadata={notes.KEY: notes.text(folded.module, shape)})
    say(f"{path}: made by {construction.expression}")
    for words in (*construction.remarks, *remarks):
        say(f"{path}: {words}")
    describing.write_program(path, construction, layout.name, say)
    if preprocessing is not None and shape is not None:
        entry = describing.entry(variables, model, shape, format, layout=layout)
        entry |= {"made_by": construction.expression, "remarks": list(construction.remarks)}
        describing.write(path, preprocessing, entry, say, config)
    return path


def _stated(
    model: Model, input_shape: Sequence[int] | None, preprocessing: Preprocessing | None
) -> tuple[int, ...] | None:
    """The shape of an example that the arguments of `save` state."""
    if input_shape is None and preprocessing is not None:
        input_shape = preprocessing.shape
    if input_shape is None:
        return None
    axes = 1 if 1 in model.input_ranks and np.size(input_shape) == 1 else 3
    shape = sizes.whole(input_shape, axes, "input_shape=(height, width, channels)")
    sizes.image(shape, "input_shape")
    return shape


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
