"""Files of weights to a model's variables."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax.core.errors import ConfigError
from vitjax.core.validation import check_keywords
from vitjax.models.protocol import Model
from vitjax.weights import adapting
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import Arrays
from vitjax.weights.layouts.layout import inside
from vitjax.weights.modules import class_of, module_of
from vitjax.weights.opening import Weights, open_weights


def load(
    source: str | Path,
    model: str | Model,
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
        **fields: fields of a model that is named; they go before the file's.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, in the module's ``param_dtype``.

    Raises:
        WeightsError: the file cannot be read, or does not fit; all leaves that are missing, left
            over or of another shape are listed.
        ConfigError: there is no such field, or a module is given, which has its own.
    """
    weights = open_weights(source, format=format, grid=grid, part=part, say=say)
    if isinstance(model, Model):
        own = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
        made = functools.partial(type(model), **own)
        check_keywords(made, fields, where=type(model).__name__)
        if fields:
            # The variables would be for another module than the caller's.
            given = ", ".join(f"{name}={value!r}" for name, value in fields.items())
            raise ConfigError(
                f"{given}: fields go with a model's name, and this is a {type(model).__name__}"
                f" that has its own; give model.clone({given}) in its place"
            )
        module = model
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
    module: Model,
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
    module: Model,
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
        say: is told what stays, what was resized, and what the file's network has otherwise.

    Raises:
        WeightsError: it does not fit, with all leaves that do not.
    """
    shapes = flat(module.unstack(expected))
    part = _part_for(weights, module)
    found, faults, explained = _found(weights, module, part)
    faults += _compare(weights, module if part is None else part[1], say)
    faults += [
        f"{name} is of dtype {array.dtype} in the file, which is no floating point"
        for name, array in found.items()
        if not jnp.issubdtype(array.dtype, jnp.floating)
    ]
    dropped = sorted(name for name in found if _head_of(name, module) and name not in shapes)
    found = {name: array for name, array in found.items() if name not in dropped}
    found = adapting.adapt(
        found,
        {name: tuple(leaf.shape) for name, leaf in shapes.items()},
        module,
        interpolation=position_interpolation,
        say=say,
    )
    kept = _heads_anew(found, shapes, dropped, module)
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
        what = f"the head is made anew: {_say_head(found, shapes, kept, dropped, module)}"
        if part is not None:
            others = ", ".join(sorted({name.split("/")[1] for name in kept}))
            what = f"fills the model's {part[0]}; made anew: {others}"
        say(f"{weights.where}: {what}")
        made = flat(module.unstack(fresh()))
        found |= {name: made[name] for name in kept}
    elif dropped:
        say(f"{weights.where}: the model has no head; left out: {', '.join(dropped)}")
    tree = unflatten_dict(
        {n: jnp.asarray(found[n], leaf.dtype) for n, leaf in shapes.items()}, sep="/"
    )
    return module.stack(tree)


def _part_for(weights: Weights, module: Model) -> tuple[str, Model] | None:
    """The part of a model that a file has weights of, its name and module; None for all of it."""
    layout, described = weights.layout, class_of(weights.description.model)[0]
    classes = (described,) if layout is None else layout.modules
    if isinstance(module, classes):
        return None
    part = module.backbone
    if part is not None and isinstance(part[1], classes):
        return part
    held = " or ".join(cls.__name__ for cls in classes)
    raise WeightsError(
        f"{weights.where} is of the format {weights.format!r}, which holds a {held}, and the model"
        f" is a {type(module).__name__}"
    )


def _compare(weights: Weights, module: Model, say: Callable[[str], None]) -> list[str]:
    """Tells of fields that the file is known to have otherwise, and no shape shows.

    Returns:
        In words, the one with which nothing is right.
    """
    described, faults = weights.description, []
    ours = module.described_fields()
    for field, rule in module.shapeless_fields.items():
        if field not in described.fields or field in described.guessed:
            continue
        there, here = described.fields[field], ours[field]
        if there == here or (rule.shown is not None and rule.shown in (there, here)):
            continue
        if rule.needs is not None and ours[rule.needs[0]] != rule.needs[1]:
            continue
        if rule.exact:
            faults.append(f"{field} is {there!r} in the file and {here!r} in the model")
            continue
        say(
            f"{weights.where}: the file's network has {field}={there!r}, the model {here!r}, with"
            f" which it computes something else; {field}={there!r} (config.model.{field}) makes"
            " them alike"
        )
    return faults


def _found(
    weights: Weights, module: Model, part: tuple[str, Model] | None
) -> tuple[dict[str, np.ndarray], list[str], set[str]]:
    """A file's arrays under our names, what was missing or left over in words, and for which."""
    if part is not None:
        name, inner = part
        leaves, wrong, about = _found(weights, inner, None)
        # A part has no head of its own.
        leaves = {inside(key, name): x for key, x in leaves.items() if not _head_of(key, inner)}
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
        except (ValueError, IndexError, TypeError) as error:
            faults.append(f"{', '.join(entry.theirs)}: {error}")
            explained.update(entry.ours)
    over = {name: array for name, array in left.items() if not layout.is_ignored(name)}
    faults += [f"left over in the file: {name} {array.shape}" for name, array in over.items()]
    return found, faults, explained


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


def _heads_anew(
    found: Arrays, shapes: Mapping[str, Any], dropped: Sequence[str], module: Model
) -> list[str]:
    """The leaves of heads that the file has none for, or for other classes.

    All of a head belongs together: a bias that happens to fit goes with its kernel, and so does a
    layer before it. Where the file has a part of what fits, the rest is missing.
    """
    ours = [name for name in sorted(shapes) if _head_of(name, module)]
    theirs = {_head_of(name, module) for name in found}
    anew = {_head_of(name, module) for name in dropped}
    for name in ours:
        here = tuple(shapes[name].shape)
        there = found[name].shape if name in found else here
        # With other axes it is damaged, and not for other classes.
        if _head_of(name, module) not in theirs or (len(there) == len(here) and there != here):
            anew.add(_head_of(name, module))
    return [name for name in ours if _head_of(name, module) in anew]


def _head_of(name: str, module: Model) -> str | None:
    """The head that the variable ``name`` is a part of, if any."""
    return module.head_of(name.removeprefix("params/"))


def _say_head(
    found: Arrays,
    shapes: Mapping[str, Any],
    kept: Sequence[str],
    dropped: Sequence[str],
    module: Model,
) -> str:
    def hidden(name: str) -> bool:
        return name.split("/")[1] in module.head_hidden

    kernel = next((name for name in kept if name.endswith("kernel") and not hidden(name)), kept[0])
    here = tuple(shapes[kernel].shape)
    if kernel not in found:
        return f"the file has none, the model has {here[-1]} outputs"
    if any(hidden(name) for name in dropped):
        return "the file's comes after a hidden layer (representation_size), the model's does not"
    there = found[kernel].shape
    if len(there) != len(here) or there[-1] == here[-1]:
        return f"the file's is {there}, the model's {here}"
    return f"the file's has {there[-1]} outputs, the model's {here[-1]}"


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested variables by the names of their leaves: ``"params/head/kernel"``."""
    leaves: dict[str, Any] = flatten_dict(dict(tree), sep="/")
    return leaves
