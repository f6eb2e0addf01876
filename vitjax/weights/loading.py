"""From a file of weights to the variables of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax.core.errors import ConfigError, UserError
from vitjax.core.names import matches
from vitjax.core.validation import check_keywords
from vitjax.models import counting
from vitjax.models.protocol import Model
from vitjax.nn.inputs import ImageError
from vitjax.weights import adapting, claims, naming
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage
from vitjax.weights.layouts import Arrays
from vitjax.weights.matching import (
    LEFT_OVER,
    about_head,
    auxiliary,
    compare,
    found_in,
    head_of,
    initial_heads,
    misfits_of,
    part_for,
)
from vitjax.weights.opening import Weights, module_of, open_weights, usual_size

# Lines of what does not fit, in one error.
_MOST_LISTED = 12
_HINT = (
    "What is left over and not of the network can be left out by name: ignore=(PATTERN,) (--ignore,"
    " config.init.ignore)"
)
_HEAD_HINT = (
    "If a new head is trained, the file's can be left out by name: ignore=(PATTERN,) (--ignore,"
    " config.init.ignore)"
)


def load(
    source: str | Path,
    model: str | Model,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    format: str | None = None,
    grid: Sequence[int] | None = None,
    part: str | None = None,
    ignore: Sequence[str] = (),
    position_interpolation: str | None = None,
    allow_nonfinite: bool = False,
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
        ignore: as in `open_weights`.
        position_interpolation: how positions are resized, see
            `vitjax.weights.adapting.resize_positions`; None for the way of the file's project.
        allow_nonfinite: take weights that are NaN or infinite, which are an error otherwise.
        rng: for parameters that are reinitialised; None for ``jax.random.key(0)``.
        say: receives a message for each change.
        **fields: fields of a named model; they take precedence over the file's.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, in the module's ``param_dtype``.

    Raises:
        WeightsError: the file cannot be read, has weights that are NaN or infinite, or does not
            fit; the message says what network it is of, or lists the parameters that are missing,
            left over or of another shape.
        ConfigError: a field is unknown, or fields are given with a module.
    """
    size = image_size if isinstance(model, Model) else usual_size(model, image_size)
    weights = open_weights(
        source, format=format, grid=grid, image_size=size, part=part, ignore=ignore, say=say
    )
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
        allow_nonfinite=allow_nonfinite,
        rng=rng,
        say=say,
    )


def fit(
    weights: Weights,
    module: Model,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    position_interpolation: str | None = None,
    allow_nonfinite: bool = False,
    rng: jax.Array | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The variables of ``module`` with the weights of an open file; the rest is as in `load`."""
    key = jax.random.key(0) if rng is None else rng
    shape = weights.shape_at(image_size, channels)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    what = f"{weights.where}, for {type(module).__name__}"
    try:
        if counting.is_deep(module):  # tracing it takes long
            _check_depth(weights, module)
            counting.check_memory(counting.size_of(module, example), what)
        expected = jax.eval_shape(module.init, key, example)
    except ImageError as error:
        # The images are the file's, and may be none of the model's because it is another network.
        part = part_for(weights, module)
        other = _another(weights, module if part is None else part[1], [str(error)])
        if other is None:
            raise
        raise other from error
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, FlaxError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{what}: cannot build this model: {reason[0]}") from error

    counting.check_memory(counting.Size.of(expected), what)
    if weights.layout is None and (image_size, channels) == (None, None):
        own = flat(module.unstack(expected))
        with damage.named(weights.where):
            claims.check_flat_head(module, own, weights.arrays, shape)

    def initial(names: Sequence[str]) -> Mapping[str, Any]:
        def draw(key: jax.Array) -> dict[str, Any]:
            made = flat(module.unstack(module.init(key, jnp.zeros(example.shape))))
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
        allow_nonfinite=allow_nonfinite,
        say=say,
    )


def _check_depth(weights: Weights, module: Model) -> None:
    """Raises WeightsError for a model with more blocks than the file has arrays."""
    for field, number in module.layer_counts().items():
        blocks = sum(number) if isinstance(number, tuple) else number
        if blocks > len(weights.arrays):
            raise WeightsError(
                f"{weights.where}: has {len(weights.arrays)} arrays, too few for a"
                f" {type(module).__name__} with {field}={number!r}"
            )


def fill(
    weights: Weights,
    module: Model,
    expected: Mapping[str, Any],
    fresh: Callable[[Sequence[str]], Mapping[str, Any]],
    *,
    exclude: Sequence[str] = (),
    position_interpolation: str | None = None,
    allow_nonfinite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The variables of ``module`` with a file's weights.

    Args:
        weights: the file.
        module: the model.
        expected: shapes and dtypes of its variables.
        fresh: returns the initial values of the named variables; called only if some are used.
            Names are as `flat` gives them for ``module.unstack(variables)``.
        exclude: patterns of parameters that the caller initialises afterwards: what the file has
            for them need not fit.
        position_interpolation: as in `load`.
        allow_nonfinite: as in `load`.
        say: receives what is reinitialised or resized, and fields with which the file's network
            computes something else.

    Raises:
        WeightsError: as in `load`.
    """
    shapes = flat(module.unstack(expected))
    excluded = {n for n in shapes if n.startswith("params/") and matches(n[7:], exclude)}
    part = part_for(weights, module)
    found = found_in(weights, module, part)
    exact = compare(weights, module if part is None else part[1], say)
    leaves = found.leaves
    dtypes = [
        f"{name} is of dtype {array.dtype} in the file, not floating point"
        for name, array in leaves.items()
        if not jnp.issubdtype(array.dtype, jnp.floating) and name not in excluded
    ]
    dropped = sorted(name for name in leaves if head_of(name, module) and name not in shapes)
    leaves = {name: array for name, array in leaves.items() if name not in dropped}
    leaves = adapting.adapt(
        leaves,
        {name: tuple(leaf.shape) for name, leaf in shapes.items()},
        module,
        interpolation=position_interpolation or weights.description.interpolation,
        say=say,
    )
    leaves = {
        name: array
        for name, array in leaves.items()
        if name not in excluded or (name in shapes and array.shape == shapes[name].shape)
    }
    left_out = [name for name in excluded if name not in leaves]
    initial = initial_heads(
        leaves, {n: shapes[n] for n in shapes if n not in left_out}, dropped, module
    )
    if part is not None:
        initial = [name for name in shapes if name.split("/")[1] != part[0]]
    explained = {name for fault in found.faults for name in fault.ours}
    compared = {n: s for n, s in shapes.items() if n not in explained.union(initial, left_out)}
    faults = [fault.words for fault in found.faults if not fault.concerns(excluded)]
    misfits = [*faults, *misfits_of(leaves, compared, initial)]
    if misfits or exact or dtypes:
        damaged = any(fault.damaged for fault in found.faults)
        others = [*exact, *dtypes, *(misfits if damaged else ())]
        own = module if part is None else part[1]
        heads = {name: shapes[name] for name in compared if head_of(name, module)}
        head = misfits_of({n: leaves[n] for n in heads if n in leaves}, heads, initial)
        raise _no_fit(weights, own, others, [] if damaged else misfits, head)
    if not allow_nonfinite:
        taken = {n: x for n, x in leaves.items() if n not in excluded.union(initial)}
        _check_finite(weights, taken, shapes, found.origins)
    if initial:
        words = about_head(weights, leaves, shapes, initial, dropped, module)
        only = all(auxiliary(name, module) for name in initial)
        which = "auxiliary heads are" if only else "head is"
        what = f"the {which} reinitialised: {words}"
        if part is not None:
            rest = ", ".join(sorted({name.split("/")[1] for name in initial}))
            what = f"fills the model's {part[0]}; reinitialised: {rest}"
        say(f"{weights.where}: {what}")
    elif dropped:
        only = all(auxiliary(name, module) for name in dropped)
        what = f"the model has no {'auxiliary heads' if only else 'head'}"
        say(f"{weights.where}: {what}; skipped: {', '.join(dropped)}")
    if made := [*initial, *left_out]:
        drawn = fresh(made)
        leaves |= {name: drawn[name] for name in made}
    tree = unflatten_dict(
        {n: jnp.asarray(leaves[n], leaf.dtype) for n, leaf in shapes.items()}, sep="/"
    )
    return module.stack(tree)


def _check_finite(
    weights: Weights,
    leaves: Arrays,
    shapes: Mapping[str, Any],
    origins: Mapping[str, Sequence[str]],
) -> None:
    """Raises WeightsError for weights that are NaN or infinite, or become so in the model."""
    faults: dict[str, None] = {}
    for name, array in leaves.items():
        dtype = shapes[name].dtype
        if np.isfinite(array).all():
            with np.errstate(over="ignore"):
                large = np.count_nonzero(~np.isfinite(array.astype(dtype)))
            if large:
                words = f"{large:,} of {array.size:,} numbers are too large for {dtype}"
                faults[f"{name}: {words}, the model's param_dtype"] = None
            continue
        # The array that the person has, and not what it was resized or added to.
        for origin in origins.get(name, (name,)):
            there = weights.arrays.get(origin, array)
            nans, infinite = np.count_nonzero(np.isnan(there)), np.count_nonzero(np.isinf(there))
            counts = [f"{n:,} {what}" for n, what in ((nans, "NaN"), (infinite, "infinite")) if n]
            if counts:
                faults[f"{origin}: {' and '.join(counts)} of {there.size:,} numbers"] = None
    if faults:
        raise WeightsError(
            f"{weights.where}: has weights that are not finite:{_lines(list(faults))}\n"
            "The network would answer NaN; take an earlier checkpoint. They are accepted by"
            " weights.load(..., allow_nonfinite=True), vitjax import --allow-nonfinite and"
            " config.init.allow_nonfinite=True"
        )


def _no_fit(
    weights: Weights,
    module: Model,
    others: Sequence[str],
    misfits: Sequence[str],
    head: Sequence[str],
) -> WeightsError:
    """The error for a file that does not fit a model: whose it is, or what does not fit.

    Args:
        weights: the file.
        module: the model.
        others: faults whatever network it is.
        misfits: what does not fit.
        head: those of ``misfits`` that concern a head.
    """
    if misfits and (other := _another(weights, module, others)) is not None:
        return other
    hint = ""
    if any(words.startswith(LEFT_OVER) for words in (*others, *misfits)):
        hint = f"\n{_HINT}"
    elif misfits and all(words in head for words in misfits):
        hint = f"\n{_HEAD_HINT}"
    return WeightsError(
        f"{weights.where} (read as {weights.format}) does not fit {type(module).__name__}:"
        f"{_lines([*others, *misfits])}{hint}"
    )


def _another(weights: Weights, module: Model, others: Sequence[str]) -> WeightsError | None:
    """The error for a file of another network than a model; None if it is not known to be one."""
    file, model = naming.of(weights.description), naming.nearest(module)
    if file is None or model is None:
        return None
    apart = naming.differences(weights.description, module)
    if not apart or found_in(weights, naming.described(weights.description), None).faults:
        return None
    fields = [
        f"{key} is {there!r} in the file and {here!r} in the model"
        for key, (there, here) in apart.items()
    ]
    return WeightsError(
        f"{weights.where} (read as {weights.format}) is of another network than the model: this is"
        f" a {file}, the model a {model}:{_lines([*fields, *others])}\nThe file's network in a"
        f" config:\n  {file.config}"
    )


def _lines(words: Sequence[str]) -> str:
    """Each of ``words`` on a line of its own, the first ones of many."""
    rest = len(words) - _MOST_LISTED
    shown = [*words[:_MOST_LISTED], *([f"and {rest} more"] if rest > 0 else [])]
    return "".join(f"\n  {line}" for line in shown)


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested variables by the names of their leaves: ``"params/head/kernel"``."""
    leaves: dict[str, Any] = flatten_dict(dict(tree), sep="/")
    return leaves
