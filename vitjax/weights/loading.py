"""Files of weights to a model's variables."""

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
from vitjax.weights.layouts.layout import inside

# The house's own names, as they stand in a tree of variables.
OWN = "safetensors"
_OWN_NAMES = re.compile(r"(params|batch_stats)/")
_HEAD = re.compile(r"params/head\d*/")


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
    arrays: Arrays = dataclasses.field(repr=False)
    layout: Layout | None
    description: Description

    @property
    def format(self) -> str:
        """The layout's name."""
        return OWN if self.layout is None else self.layout.name

    def shape_at(
        self, image_size: int | Sequence[int] | None, channels: int | None = None
    ) -> tuple[int, int, int]:
        """(height, width, channels) of an example: the file's own, or of images as given."""
        height, width, own = self.description.input_shape
        if image_size is not None:
            height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        return height, width, own if channels is None else channels


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
        check_format(format)
    path = fetching.local(str(source), say=say)
    where, arrays = str(source), files.read(path, part=part)
    note = json.loads(files.metadata(path).get("vitjax", "null"))
    own = format in (None, OWN) and all(_OWN_NAMES.match(name) for name in arrays)
    # Names of big_vision begin in the same way, and have no note.
    if own and (format == OWN or note):
        return Weights(where, arrays, None, _describe_own(note, where))
    pair = None if grid is None else (int(grid[0]), int(grid[1]))
    if note and pair is None:
        pair = grid_of(note["fields"].get("patch_size"), note["input_shape"])
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


def check_format(format: str) -> None:
    """Raises WeightsError unless there is such a format."""
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
            only what its name leaves open is taken from the file: classes and options; nothing
            where it is of another class, of which the file's is a part.
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
    cls, fixed = _class_of(model)
    if cls is not _class_of(weights.description.model)[0]:
        told = {}
    told = {k: v for k, v in told.items() if k not in fixed or k == "num_classes"}
    return models.create(model, **{**told, **fields})


def _class_of(model: str | type[nn.Module]) -> tuple[Any, Mapping[str, Any]]:
    """The class that a name of a model, or a class, stands for, and the fields that it decides."""
    constructor = MODELS[model] if isinstance(model, str) else model
    if isinstance(constructor, functools.partial):
        return constructor.func, constructor.keywords
    return constructor, {}


def load(
    source: str | Path,
    model: str | nn.Module,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
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
    made. Where a part of the model, its ``backbone``, is what the file has weights of, the rest is
    left so too. Each is told.

    Args:
        source: a path, or ``"hf:..."``, ``"augreg:..."``, ``"https://..."``.
        model: a module, or one of `vitjax.models.names`, whose open options the file decides.
        image_size: the pixels on a side, or (height, width), of images to come; None for what the
            file's weights were made for.
        channels: of images to come; None likewise.
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
    return fit(
        weights,
        module,
        image_size=image_size,
        channels=channels,
        position_interpolation=position_interpolation,
        rng=rng,
        say=say,
    )


def fit(
    weights: Weights,
    module: nn.Module,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    position_interpolation: str = "bicubic",
    rng: jax.Array | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The variables of ``module`` with weights that were read; the rest is as in `load`."""
    key = jax.random.key(0) if rng is None else rng
    example = jnp.zeros((1, *weights.shape_at(image_size, channels)))
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
    shapes = flat(unstacked(expected) if scanned else expected)
    part = _part_for(weights, module)
    found, faults, explained = _found(weights, module, part)
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
    if part is not None:
        kept = [name for name in shapes if name.split("/")[1] != part[0]]
    compared = {n: leaf for n, leaf in shapes.items() if n not in explained.union(kept)}
    faults += _misfits(found, compared, kept)
    if faults:
        listed = "\n  ".join(faults)
        raise WeightsError(
            f"{weights.where} (read as {weights.format}) does not fit"
            f" {type(module).__name__}:\n  {listed}"
        )
    if kept:
        what = f"the head is made anew: {_say_head(found, shapes, kept)}"
        if part is not None:
            others = ", ".join(sorted({name.split("/")[1] for name in kept}))
            what = f"fills the model's {part[0]}; made anew: {others}"
        say(f"{weights.where}: {what}")
        made = flat(unstacked(fresh()) if scanned else fresh())
        found |= {name: made[name] for name in kept}
    elif dropped := sorted(heads - {*shapes}):
        say(f"{weights.where}: the model has no head; left out: {', '.join(dropped)}")
    tree = unflatten_dict(
        {n: jnp.asarray(found[n], leaf.dtype) for n, leaf in shapes.items()}, sep="/"
    )
    return models.stack_layers(tree) if scanned else tree


def _part_for(weights: Weights, module: nn.Module) -> tuple[str, nn.Module] | None:
    """The part of a model that a file has weights of, its name and module; None for all of it."""
    layout, described = weights.layout, _class_of(weights.description.model)[0]
    classes = (described,) if layout is None else layout.modules
    if isinstance(module, classes):
        return None
    part: tuple[str, nn.Module] | None = getattr(module, "backbone", None)
    if part is not None and isinstance(part[1], classes):
        return part
    held = " or ".join(cls.__name__ for cls in classes)
    raise WeightsError(
        f"{weights.where} is of the format {weights.format!r}, which holds a {held}, and the model"
        f" is a {type(module).__name__}"
    )


def _found(
    weights: Weights, module: nn.Module, part: tuple[str, nn.Module] | None
) -> tuple[dict[str, np.ndarray], list[str], set[str]]:
    """A file's arrays under our names, what was missing or left over in words, and for which."""
    if part is not None:
        name, inner = part
        leaves, wrong, about = _found(weights, inner, None)
        # A part has no head of its own.
        leaves = {inside(key, name): x for key, x in leaves.items() if not _HEAD.match(key)}
        return leaves, wrong, {inside(key, name) for key in about}
    if weights.layout is None:
        return dict(weights.arrays), [], set()
    layout, left = weights.layout, dict(weights.arrays)
    found: dict[str, np.ndarray] = {}
    faults: list[str] = []
    explained: set[str] = set()
    try:
        entries = layout.entries(module, weights.arrays, **grid_keyword(weights.description.grid))
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


def grid_of(patch_size: Any, shape: Sequence[int] | None) -> tuple[int, int] | None:
    """(rows, columns) of patches in images of ``shape``, as far as both are known."""
    if patch_size is None or shape is None:
        return None
    patch = np.broadcast_to(patch_size, 2)
    return int(shape[0] // patch[0]), int(shape[1] // patch[1])


def grid_keyword(grid: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
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


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested variables by the names of their leaves: ``"params/head/kernel"``."""
    leaves: dict[str, Any] = flatten_dict(dict(tree), sep="/")
    return leaves


def unstacked(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The loop's form of a scanned model's variables or of their shapes."""
    leaf = jax.tree.leaves(tree)[0]
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(models.unstack_layers, tree)
    return models.unstack_layers(tree)
