"""From a file of weights to the variables of a model."""

from __future__ import annotations

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
from vitjax.weights.opening import Weights, class_of, module_of, open_weights, usual_size


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

    Position embeddings are resized to the model's grid, and image kernels to its patches and
    channels (see `vitjax.weights.adapting`). A head with another number of classes is
    reinitialised. If the file has the weights of a part of the model, its ``backbone``, all other
    parts are reinitialised. Each change is reported.

    Args:
        source: a path, or ``"hf:..."``, ``"augreg:..."``, ``"https://..."``.
        model: a module, or one of `vitjax.models.names`; the file then determines the options that
            the name leaves open.
        image_size: pixels on a side, or (height, width), of the images that the model will see;
            None for those that the file's weights are for.
        channels: of these images; None likewise.
        format: as in `open_weights`.
        grid: as in `open_weights`.
        part: as in `open_weights`.
        position_interpolation: ``"bicubic"`` or ``"bilinear"``, see
            `vitjax.weights.adapting.resize_positions`.
        rng: for parameters that are reinitialised; None for ``jax.random.key(0)``.
        say: receives a message for each change.
        **fields: fields of a named model; they take precedence over the file's.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, in the module's ``param_dtype``.

    Raises:
        WeightsError: the file cannot be read or does not fit; all parameters that are missing,
            left over or of another shape are listed.
        ConfigError: a field is unknown, or fields are given with a module.
    """
    size = image_size if isinstance(model, Model) else usual_size(model, image_size)
    weights = open_weights(source, format=format, grid=grid, image_size=size, part=part, say=say)
    if isinstance(model, Model):
        own = dict.fromkeys(model.field_names())
        made = functools.partial(type(model), **own)
        check_keywords(made, fields, where=type(model).__name__)
        if fields:
            # The variables would be for another module than the caller's.
            given = ", ".join(f"{name}={value!r}" for name, value in fields.items())
            raise ConfigError(
                f"{given}: fields are for the name of a model, but a {type(model).__name__} is"
                f" given; pass model.clone({given}) instead"
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
    """The variables of ``module`` with the weights of an open file; the rest is as in `load`."""
    key = jax.random.key(0) if rng is None else rng
    example = jnp.zeros((1, *weights.shape_at(image_size, channels)))
    expected = jax.eval_shape(module.init, key, example)

    def initial(names: Sequence[str]) -> Mapping[str, Any]:
        def draw(key: jax.Array) -> dict[str, Any]:
            made = flat(module.unstack(module.init(key, example)))
            return {name: made[name] for name in names}

        # What is not returned is not compiled.
        found: dict[str, Any] = jax.jit(draw)(key)
        return found

    return fill(
        weights,
        module,
        expected,
        initial,
        position_interpolation=position_interpolation,
        say=say,
    )


def fill(
    weights: Weights,
    module: Model,
    expected: Mapping[str, Any],
    fresh: Callable[[Sequence[str]], Mapping[str, Any]],
    *,
    position_interpolation: str = "bicubic",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The variables of ``module`` with a file's weights.

    Args:
        weights: the file.
        module: the model.
        expected: shapes and dtypes of its variables.
        fresh: returns the initial values of the named variables; called only if some are used.
            Names are as `flat` gives them for ``module.unstack(variables)``.
        position_interpolation: as in `load`.
        say: receives what is reinitialised or resized, and fields with which the file's network
            computes something else.

    Raises:
        WeightsError: it does not fit; all parameters that do not are listed.
    """
    shapes = flat(module.unstack(expected))
    part = _part_for(weights, module)
    found, faults, explained = _found(weights, module, part)
    faults += _compare(weights, module if part is None else part[1], say)
    faults += [
        f"{name} is of dtype {array.dtype} in the file, not floating point"
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
    initial = _initial_heads(found, shapes, dropped, module)
    if part is not None:
        initial = [name for name in shapes if name.split("/")[1] != part[0]]
    compared = {n: leaf for n, leaf in shapes.items() if n not in explained.union(initial)}
    faults += _misfits(found, compared, initial)
    if faults:
        listed = "\n  ".join(faults)
        raise WeightsError(
            f"{weights.where} (read as {weights.format}) does not fit"
            f" {type(module).__name__}:\n  {listed}"
        )
    if initial:
        what = f"the head is reinitialised: {_about_head(found, shapes, initial, dropped, module)}"
        if part is not None:
            others = ", ".join(sorted({name.split("/")[1] for name in initial}))
            what = f"fills the model's {part[0]}; reinitialised: {others}"
        say(f"{weights.where}: {what}")
        made = fresh(initial)
        found |= {name: made[name] for name in initial}
    elif dropped:
        say(f"{weights.where}: the model has no head; skipped: {', '.join(dropped)}")
    tree = unflatten_dict(
        {n: jnp.asarray(found[n], leaf.dtype) for n, leaf in shapes.items()}, sep="/"
    )
    return module.stack(tree)


def _part_for(weights: Weights, module: Model) -> tuple[str, Model] | None:
    """Name and module of the part of a model that a file is for; None for the complete model."""
    layout, described = weights.layout, class_of(weights.description.model)[0]
    classes = (described,) if layout is None else layout.modules
    if isinstance(module, classes):
        return None
    part = module.backbone
    if part is not None and isinstance(part[1], classes):
        return part
    held = " or ".join(cls.__name__ for cls in classes)
    raise WeightsError(
        f"{weights.where} has the format {weights.format!r} of a {held}, but the model is a"
        f" {type(module).__name__}"
    )


def _compare(weights: Weights, module: Model, say: Callable[[str], None]) -> list[str]:
    """Reports fields that differ between file and model, and that no shape shows.

    Returns:
        Differences with which the weights are of no use.
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
            f"{weights.where}: the file's network has {field}={there!r}, the model {here!r}, so it"
            f" computes something else; set {field}={there!r} (config.model.{field}) for the same"
        )
    return faults


def _found(
    weights: Weights, module: Model, part: tuple[str, Model] | None
) -> tuple[dict[str, np.ndarray], list[str], set[str]]:
    """A file's arrays under vitjax's names, faults in words, and the parameters they concern."""
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
        entries = layout.entries_at(module, weights.arrays, weights.description.grid)
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


def _misfits(found: Arrays, shapes: Mapping[str, Any], initial: Sequence[str]) -> list[str]:
    faults = []
    for name, leaf in shapes.items():
        if name not in found:
            faults.append(f"the model's {name} {tuple(leaf.shape)} is not in the file")
        elif found[name].shape != tuple(leaf.shape):
            faults.append(f"{name} is {found[name].shape} in the file and {tuple(leaf.shape)} here")
    extra = [name for name in found if name not in shapes and name not in initial]
    return faults + [f"the file's {name} {found[name].shape} is not in the model" for name in extra]


def _initial_heads(
    found: Arrays, shapes: Mapping[str, Any], dropped: Sequence[str], module: Model
) -> list[str]:
    """The parameters of heads that the file lacks, or has for other classes.

    A head is taken or reinitialised as a unit, with a hidden layer before it: a bias that happens
    to fit is not kept without its kernel. If the file has only some fitting parameters of a head,
    the others are missing.
    """
    ours = [name for name in sorted(shapes) if _head_of(name, module)]
    theirs = {_head_of(name, module) for name in found}
    initial = {_head_of(name, module) for name in dropped}
    for name in ours:
        here = tuple(shapes[name].shape)
        there = found[name].shape if name in found else here
        # With another number of axes it is damaged, not for other classes.
        if _head_of(name, module) not in theirs or (len(there) == len(here) and there != here):
            initial.add(_head_of(name, module))
    return [name for name in ours if _head_of(name, module) in initial]


def _head_of(name: str, module: Model) -> str | None:
    """The head that the variable ``name`` belongs to, if any."""
    return module.head_of(name.removeprefix("params/"))


def _about_head(
    found: Arrays,
    shapes: Mapping[str, Any],
    initial: Sequence[str],
    dropped: Sequence[str],
    module: Model,
) -> str:
    def hidden(name: str) -> bool:
        return name.split("/")[1] in module.head_hidden

    kernels = (name for name in initial if name.endswith("kernel") and not hidden(name))
    kernel = next(kernels, initial[0])
    here = tuple(shapes[kernel].shape)
    if kernel not in found:
        return f"the file has none, the model has {here[-1]} outputs"
    if any(hidden(name) for name in dropped):
        return "the file's follows a hidden layer (representation_size), the model's does not"
    there = found[kernel].shape
    if len(there) != len(here) or there[-1] == here[-1]:
        return f"the file's is {there}, the model's {here}"
    return f"the file's has {there[-1]} outputs, the model's {here[-1]}"


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested variables by the names of their leaves: ``"params/head/kernel"``."""
    leaves: dict[str, Any] = flatten_dict(dict(tree), sep="/")
    return leaves
