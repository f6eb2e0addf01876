"""Files of weights to a model's variables, and back."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import models
from vitjax.models.catalogue import MODELS
from vitjax.registry import check_keywords, near_match
from vitjax.weights import adapting, fetching, files
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import LAYOUTS, Arrays, Description, Layout

# The house's own names, as they stand in a tree of variables.
OWN = "safetensors"
_OWN_NAMES = re.compile(r"(params|batch_stats)/")
_HEAD = re.compile(r"params/head\d*/")
# Fields of every module that say how it computes, not what it is.
_HOW = frozenset({"parent", "name", "dtype", "param_dtype", "axis_name", "conv_impl"})
_HOW_VIT = frozenset({"attention_impl", "scan_layers", "remat", "dropout", "drop_path"})


@dataclasses.dataclass(frozen=True)
class Weights:
    """A file of weights, read.

    Attributes:
        where: how errors call it.
        arrays: what is in it, brought to the layout's one form.
        layout: whose names these are; None for the house's own.
        description: what the file tells of its model.
    """

    where: str
    arrays: Arrays
    layout: Layout | None
    description: Description

    @property
    def format(self) -> str:
        """The layout's name."""
        return OWN if self.layout is None else self.layout.name


def open_weights(
    source: str | Path,
    *,
    format: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    say: Callable[[str], None] = print,
) -> Weights:
    """Reads a file and finds out whose it is.

    Args:
        source: a path, or ``"hf:..."`` and the like, see `vitjax.weights.fetching.local`.
        format: one of `formats`, where names alone do not tell.
        grid: (rows, columns) of patches that position embeddings are for; None for a square.
        part: which of several sets of weights in one file, see `vitjax.weights.files.read`.
        say: is told of downloads.

    Raises:
        WeightsError: there is no such file, it holds no weights, or nobody's names are in it.
    """
    if format is not None:
        _check_format(format)
    path = fetching.local(str(source), say=say)
    where, arrays = str(source), files.read(path, part=part)
    note = json.loads(files.metadata(path).get("vitjax", "null"))
    own = format in (None, OWN) and all(_OWN_NAMES.match(name) for name in arrays)
    # Names of big_vision begin in the same way, and have no note.
    if own and (format == OWN or note):
        return Weights(where, arrays, None, _describe_own(note, where))
    pair = None if grid is None else (int(grid[0]), int(grid[1]))
    if note and pair is None:
        pair = _grid_of(note["fields"].get("patch_size"), note["input_shape"])
    for layout in (layout for layout in LAYOUTS if format in (None, layout.name)):
        prepared = layout.prepare(arrays)
        if layout.recognise(prepared):
            try:
                description = layout.describe(prepared, pair)
            except WeightsError as error:
                raise WeightsError(f"{where}, read as {layout.name}: {error}") from error
            if note:
                # Whoever wrote the file knew more than its shapes tell.
                shape = tuple(note["input_shape"] or description.input_shape)
                description = dataclasses.replace(
                    description, fields=note["fields"], input_shape=shape, guessed={}
                )
            return Weights(where, prepared, layout, description)
    if own:
        return Weights(where, arrays, None, _describe_own(note, where))
    some = ", ".join(sorted(arrays)[:6])
    raise WeightsError(
        f"{where}: its {len(arrays)} arrays ({some}, ...) are not named as in"
        f" {format or 'any format that is known: ' + ', '.join(formats())}"
    )


def formats() -> tuple[str, ...]:
    """The names of all formats, the house's own first."""
    return tuple(dict.fromkeys((OWN, *(layout.name for layout in LAYOUTS))))


def _check_format(format: str) -> None:
    if format not in formats():
        raise WeightsError(
            f"unknown format {format!r}{near_match(format, formats())}"
            f" (known: {', '.join(formats())})"
        )


def module_of(
    weights: Weights,
    model: str | None = None,
    *,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> nn.Module:
    """The module that a file's weights are for.

    Args:
        weights: the file.
        model: one of `vitjax.models.names`; None for what the file's shapes say. Of a named model
            only what its name leaves open is taken from the file: classes and options.
        say: is told of what had to be guessed.
        **fields: fields of the module that go before what the file says.

    Raises:
        ConfigError: there is no such model or field.
        WeightsError: the file does not tell a field that is needed.
    """
    told = dict(weights.description.fields)
    if model is None:
        for field, words in weights.description.guessed.items():
            if field in fields:
                continue
            if field not in told:
                raise WeightsError(f"{weights.where}: {words}; say {field}=...")
            say(f"{weights.where}: {words}; {field}=... says otherwise")
        named = weights.description.model
        if isinstance(named, str):
            return models.create(named, **{**told, **fields})
        return named(**{**told, **fields})
    constructor = MODELS[model]
    fixed = constructor.keywords if isinstance(constructor, functools.partial) else {}
    told = {k: v for k, v in told.items() if k not in fixed or k == "num_classes"}
    return models.create(model, **{**told, **fields})


def load(
    source: str | Path,
    model: str | nn.Module,
    *,
    image_size: int | Sequence[int] | None = None,
    format: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    position_interpolation: str = "bicubic",
    rng: jax.Array | None = None,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> dict[str, Any]:
    """The variables of ``model`` with the weights of a file.

    Position embeddings are resized to the model's grid and first kernels to its patches and
    channels (see `vitjax.weights.adapting`); a head of another number of classes is left as it was
    made. Each is told.

    Args:
        source: a path, or ``"hf:..."``, ``"augreg:..."``, ``"https://..."``.
        model: a module, or one of `vitjax.models.names`, whose open options the file decides.
        image_size: the pixels on a side, or (height, width), of images to come; None for what the
            file's weights were made for.
        format: as in `open_weights`.
        grid: as in `open_weights`.
        part: as in `open_weights`.
        position_interpolation: how position embeddings are resized: ``"bicubic"`` or
            ``"bilinear"``, see `vitjax.weights.adapting.resize_positions`.
        rng: for parameters that are left as they were made; None for a key of zero.
        say: is told what was changed.
        **fields: fields of the model that go before its own and the file's.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, in the module's ``param_dtype``.

    Raises:
        WeightsError: the file cannot be read, or does not fit; all leaves that are missing, left
            over or of another shape are listed.
    """
    weights = open_weights(source, format=format, grid=grid, part=part, say=say)
    if isinstance(model, nn.Module):
        own = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
        made = functools.partial(type(model), **own)
        check_keywords(made, fields, where=type(model).__name__)
        module = model.clone(**fields)
    else:
        module = module_of(weights, model, say=say, **fields)
    height, width, channels = weights.description.input_shape
    if image_size is not None:
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
    key = jax.random.key(0) if rng is None else rng
    example = jnp.zeros((1, height, width, channels))
    expected = jax.eval_shape(module.init, key, example)
    return fill(
        weights,
        module,
        expected,
        lambda: jax.jit(module.init)(key, example),
        position_interpolation=position_interpolation,
        say=say,
    )


def fill(
    weights: Weights,
    module: nn.Module,
    expected: Mapping[str, Any],
    fresh: Callable[[], Mapping[str, Any]],
    *,
    position_interpolation: str = "bicubic",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The variables of ``module`` with a file's weights.

    Args:
        weights: the file.
        module: what the variables are for.
        expected: their shapes and dtypes.
        fresh: gives variables as they were made; called only where some of them stay so.
        position_interpolation: as in `load`.
        say: is told what stays, and what was resized.

    Raises:
        WeightsError: it does not fit, with all leaves that do not.
    """
    scanned = getattr(module, "scan_layers", False)
    shapes = _flat(_unstacked(expected) if scanned else expected)
    found, faults, explained = _found(weights, module)
    heads = {name for name in {*found, *shapes} if _HEAD.match(name)}
    found = {name: array for name, array in found.items() if name in shapes or name not in heads}
    found = adapting.adapt(
        found,
        {name: tuple(leaf.shape) for name, leaf in shapes.items()},
        module,
        interpolation=position_interpolation,
        say=say,
    )
    kept = [
        n
        for n in sorted(heads & {*shapes})
        if n not in found or found[n].shape != tuple(shapes[n].shape)
    ]
    if kept:
        # A head whose bias happens to fit belongs to its kernel all the same.
        tops = {name.rpartition("/")[0] for name in kept}
        kept = [name for name in sorted(heads & {*shapes}) if name.rpartition("/")[0] in tops]
    compared = {n: leaf for n, leaf in shapes.items() if n not in explained.union(kept)}
    faults += _misfits(found, compared, kept)
    if faults:
        listed = "\n  ".join(faults)
        raise WeightsError(
            f"{weights.where} (read as {weights.format}) does not fit"
            f" {type(module).__name__}:\n  {listed}"
        )
    if kept:
        say(f"{weights.where}: the head is made anew: {_say_head(found, shapes, kept)}")
        made = _flat(_unstacked(fresh()) if scanned else fresh())
        found |= {name: made[name] for name in kept}
    elif dropped := sorted(heads - {*shapes}):
        say(f"{weights.where}: the model has no head; left out: {', '.join(dropped)}")
    tree = unflatten_dict(
        {n: jnp.asarray(found[n], leaf.dtype) for n, leaf in shapes.items()}, sep="/"
    )
    return models.stack_layers(tree) if scanned else tree


def save(
    variables: Mapping[str, Any],
    model: nn.Module,
    path: str | Path,
    format: str = OWN,
    *,
    input_shape: Sequence[int] | None = None,
) -> Path:
    """Writes a model's variables under another project's names, or under the house's own.

    Args:
        variables: ``{"params": ..., "batch_stats": ...}``.
        model: the module that they are for.
        path: the file; its suffix (.npz, .safetensors, .pth, .pt, .bin) says in which container,
            and one without a suffix gets the format's usual one.
        format: one of `formats` that is written.
        input_shape: (height, width, channels) of the model's examples. It is noted in the file
            beside the model's fields, so that the file tells all that is needed to use it; and it
            is needed where the format keeps positions that the model computes.

    Returns:
        The path that was written.

    Raises:
        WeightsError: the format cannot hold this model, or it cannot be written there.
    """
    path = Path(path)
    if getattr(model, "scan_layers", False):
        variables = _unstacked(variables)
    ours = {name: np.asarray(leaf) for name, leaf in _flat(variables).items()}
    metadata = {"vitjax": json.dumps(_note(model, input_shape))}
    if format == OWN:
        path = path if path.suffix else path.with_suffix(".safetensors")
        files.write(path, ours, metadata=metadata)
        return path
    layout = _layout_for(model, format)
    theirs: dict[str, np.ndarray] = {}
    left = dict(ours)
    grid = _grid_of(getattr(model, "patch_size", None), input_shape)
    try:
        entries = layout.entries(model, None, **_grid(grid))
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
    return path


def _layout_for(model: nn.Module, format: str) -> Layout:
    """The layout of this name that holds such modules."""
    _check_format(format)
    fitting = [layout for layout in LAYOUTS if isinstance(model, layout.modules) and layout.writes]
    for layout in fitting:
        if layout.name == format:
            return layout
    others = ", ".join(dict.fromkeys((OWN, *(layout.name for layout in fitting))))
    raise WeightsError(
        f"format {format!r} is not written for a {type(model).__name__}; these are: {others}"
    )


def _found(
    weights: Weights, module: nn.Module
) -> tuple[dict[str, np.ndarray], list[str], set[str]]:
    """A file's arrays under our names, what was missing or left over in words, and for which."""
    if weights.layout is None:
        return dict(weights.arrays), [], set()
    layout, left = weights.layout, dict(weights.arrays)
    if not isinstance(module, layout.modules):
        classes = " or ".join(cls.__name__ for cls in layout.modules)
        raise WeightsError(
            f"{weights.where} is of the format {layout.name!r}, which holds a {classes}, and the"
            f" model is a {type(module).__name__}"
        )
    found: dict[str, np.ndarray] = {}
    faults: list[str] = []
    explained: set[str] = set()
    try:
        entries = layout.entries(module, weights.arrays, **_grid(weights.description.grid))
    except WeightsError as error:
        raise WeightsError(f"{weights.where}, read as {layout.name}: {error}") from error
    for entry in entries:
        lacking = [name for name in entry.theirs if name not in weights.arrays]
        if lacking:
            if not (entry.optional and len(lacking) == len(entry.theirs)):
                faults.append(
                    f"missing in the file: {', '.join(lacking)} (for {', '.join(entry.ours)})"
                )
                explained.update(entry.ours)
            continue
        given = [left.pop(name, weights.arrays[name]) for name in entry.theirs]
        try:
            found |= dict(zip(entry.ours, entry.read(*given), strict=True))
        except (WeightsError, ValueError) as error:
            faults.append(f"{', '.join(entry.theirs)}: {error}")
            explained.update(entry.ours)
    over = {name: array for name, array in left.items() if not layout.is_ignored(name)}
    faults += [f"left over in the file: {name} {array.shape}" for name, array in over.items()]
    return found, faults, explained


def _grid_of(patch_size: Any, shape: Sequence[int] | None) -> tuple[int, int] | None:
    """(rows, columns) of patches in images of ``shape``, as far as both are known."""
    if patch_size is None or shape is None:
        return None
    patch = np.broadcast_to(patch_size, 2)
    return int(shape[0] // patch[0]), int(shape[1] // patch[1])


def _grid(grid: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
    """The keyword of `Layout.entries` that layouts without a grid do not take."""
    return {} if grid is None else {"grid": grid}


def _misfits(found: Arrays, shapes: Mapping[str, Any], kept: Sequence[str]) -> list[str]:
    faults = []
    for name, leaf in shapes.items():
        if name not in found:
            faults.append(f"the model's {name} {tuple(leaf.shape)} is not in the file")
        elif found[name].shape != tuple(leaf.shape):
            faults.append(f"{name} is {found[name].shape} in the file and {tuple(leaf.shape)} here")
    extra = [name for name in found if name not in shapes and name not in kept]
    return faults + [f"the file's {name} {found[name].shape} is not in the model" for name in extra]


def _say_head(found: Arrays, shapes: Mapping[str, Any], kept: Sequence[str]) -> str:
    kernel = next((name for name in kept if name.endswith("kernel")), kept[0])
    here = shapes[kernel].shape[-1]
    if kernel not in found:
        return f"the file has none, the model has {here} outputs"
    return f"the file's has {found[kernel].shape[-1]} outputs, the model's {here}"


def _describe_own(note: Mapping[str, Any] | None, where: str) -> Description:
    if note is None:
        raise WeightsError(f"{where}: has vitjax's names, and no note of the model that it is of")
    shape = note["input_shape"]
    if shape is None:
        raise WeightsError(f"{where}: does not say for which images it was made")
    return Description(getattr(models, note["model"]), note["fields"], tuple(shape))


def _note(model: nn.Module, input_shape: Sequence[int] | None) -> dict[str, Any]:
    left_out = _HOW | _HOW_VIT
    fields = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in left_out
    }
    shape = None if input_shape is None else list(input_shape)
    return {"model": type(model).__name__, "fields": fields, "input_shape": shape}


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = flatten_dict(dict(tree), sep="/")
    return flat


def _unstacked(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The loop's form of a scanned model's variables or of their shapes."""
    leaf = jax.tree.leaves(tree)[0]
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(models.unstack_layers, tree)
    return models.unstack_layers(tree)
