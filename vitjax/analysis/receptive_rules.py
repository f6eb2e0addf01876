"""How operations change the pixels that an activation depends on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

from vitjax.analysis.receptive_field import Field, union

# Of equal shapes, but every output depends on all inputs along an axis.
_MIXING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "fft"}


def outputs(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    """The fields of an equation's outputs, in one direction, from those of its inputs.

    What mixes all positions of an axis (means, attention, dense layers), and operations that are
    not known, give the whole image: no field is smaller than the true one. Where copies of a map
    are cut into shifted pieces, this holds once what runs over is cut off.
    """
    name, count = equation.primitive.name, len(equation.outvars)
    if all(field is None for field in fields):
        return [None] * count
    rule = _RULES.get(name)
    if rule is not None:
        return list(rule(equation, fields))
    if name.startswith(("reduce_", "arg")) and "axes" in equation.params:
        return [_reduced(equation, field) for field in fields[:1]] * count
    shapes = [v.aval.shape for v in equation.invars]  # type: ignore[attr-defined]
    results = {v.aval.shape for v in equation.outvars}  # type: ignore[attr-defined]
    if name not in _MIXING and len(results) == 1:
        shape = results.pop()
        if all(not each or _broadcasts(each, shape) for each in shapes):
            pairs = zip(fields, shapes, strict=True)
            return [union([_stretched(field, each, shape) for field, each in pairs])] * count
    known = next(field for field in fields if field is not None)
    return [known.all()] * count


def _broadcasts(shape: Sequence[int], wide: Sequence[int]) -> bool:
    return len(shape) == len(wide) and all(a in (1, b) for a, b in zip(shape, wide, strict=True))


def _stretched(field: Field | None, shape: Sequence[int], wide: Sequence[int]) -> Field | None:
    """The field of an array that is repeated along axes of one position."""
    if field is None or field.axis is None or shape[field.axis] == wide[field.axis]:
        return field
    return field.on(None)


def reduces(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> bool:
    """Whether an equation is a mean or a maximum over rows or columns of a map."""
    axes = equation.params.get("axes", ())
    return equation.primitive.name.startswith("reduce_") and any(
        field is not None and field.axis in axes for field in fields
    )


def _reduced(equation: core.JaxprEqn, field: Field | None) -> Field | None:
    axes = equation.params["axes"]
    if field is None or field.axis is None:
        return field
    if field.axis in axes:
        return field.all()
    return field.on(field.axis - sum(axis < field.axis for axis in axes))


def _convolution(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    params, (field, kernel) = equation.params, fields
    numbers = params["dimension_numbers"]
    known = field if field is not None else kernel
    assert known is not None
    if field is None or kernel is not None or field.axis is None:
        return [known if kernel is None else known.all()]
    place = numbers.lhs_spec.index(field.axis)
    if place == 0:
        return [field.on(numbers.out_spec[0])]
    if place == 1:
        return [field.all()]
    size = equation.invars[1].aval.shape[numbers.rhs_spec[place]]  # type: ignore[attr-defined]
    axis = place - 2
    moved = field.windows(
        size,
        params["window_strides"][axis],
        params["padding"][axis][0],
        params["lhs_dilation"][axis],
        params["rhs_dilation"][axis],
    )
    return [moved.on(numbers.out_spec[place])]


def _window(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field, params = fields[0], equation.params
    if field is None or (axis := field.axis) is None:
        return [field] * len(equation.outvars)
    moved = field.windows(
        params["window_dimensions"][axis],
        params["window_strides"][axis],
        params["padding"][axis][0],
        params["base_dilation"][axis],
        params["window_dilation"][axis],
    )
    return [moved] * len(equation.outvars)


def _pad(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field = fields[0]
    if field is None or field.axis is None:
        return [field]
    before, _, inner = equation.params["padding_config"][field.axis]
    return [field.windows(1, before=before, spread=inner + 1) if before or inner else field]


def _slice(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field, params = fields[0], equation.params
    if field is None or field.axis is None:
        return [field]
    start = params["start_indices"][field.axis]
    stride = 1 if params["strides"] is None else params["strides"][field.axis]
    return [field if (start, stride) == (0, 1) else field.windows(1, stride, -start)]


def _dynamic_slice(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field, size = fields[0], equation.params["slice_sizes"]
    if field is None or field.axis is None or any(each is not None for each in fields[1:]):
        return [field if field is None else field.all(field.axis)]
    # It may start anywhere.
    places = equation.invars[0].aval.shape[field.axis] - size[field.axis] + 1  # type: ignore[attr-defined]
    return [field.windows(places) if places > 1 else field]


def _split(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field, sizes = fields[0], equation.params["sizes"]
    if field is None or field.axis != equation.params["axis"]:
        return [field] * len(sizes)
    return [field.windows(1, before=-sum(sizes[:i])) for i in range(len(sizes))]


def _concatenate(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    axis = equation.params["dimension"]
    along = [i for i, field in enumerate(fields) if field is not None and field.axis == axis]
    if not along:
        return [union(fields)]
    sizes = [v.aval.shape[axis] for v in equation.invars]  # type: ignore[attr-defined]
    main = max(along, key=lambda i: sizes[i])
    field = fields[main]
    assert field is not None
    before = sum(sizes[:main])
    for i, each in enumerate(fields):
        if (
            i != main
            and each is not None
            and not _mirrors(each, field, i < main, sizes[i], sizes[main])
        ):
            return [field.all(axis)]
    return [field.windows(1, before=before) if before else field]


def _mirrors(border: Field, field: Field, before: bool, size: int, count: int) -> bool:
    """Whether a border of ``size`` positions mirrors the nearest ones of ``count`` positions.

    A window that reaches into such a border and whose centre does not lie in it holds the positions
    that are mirrored too. So the border is taken for one of positions outside of the image.
    """
    if border.axis != field.axis or border.whole or field.whole or border.merged or field.merged:
        return False
    # Without the outermost position (1), or with it (0).
    return any(
        all(
            border.at(size - 1 - k if before else k)
            == field.at(k + skipped if before else count - 1 - k - skipped)
            for k in range(size)
        )
        for skipped in (1, 0)
    )


def _stack(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    new = equation.params["axis"]
    return [_moved(union(fields), lambda axis: axis + (axis >= new))]


def _reverse(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    field = fields[0]
    if field is None or field.axis not in equation.params["dimensions"]:
        return [field]
    return [field.reversed(equation.invars[0].aval.shape[field.axis])]  # type: ignore[attr-defined]


def _transpose(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    order = equation.params["permutation"]
    return [_moved(fields[0], lambda axis: order.index(axis))]


def _broadcast(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    places = equation.params["broadcast_dimensions"]
    shapes = equation.invars[0].aval.shape, equation.outvars[0].aval.shape  # type: ignore[attr-defined]

    def moved(axis: int) -> int | None:
        return places[axis] if shapes[0][axis] == shapes[1][places[axis]] else None

    return [_moved(fields[0], moved)]


def _squeeze(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    gone = equation.params["dimensions"]
    return [_moved(fields[0], lambda a: None if a in gone else a - sum(axis < a for axis in gone))]


def _moved(field: Field | None, place: Callable[[int], int | None]) -> Field | None:
    return field if field is None or field.axis is None else field.on(place(field.axis))


def _dot(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    contracting, batch = equation.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in equation.invars]  # type: ignore[attr-defined]
    free = [[a for a in range(ranks[i]) if a not in (*contracting[i], *batch[i])] for i in (0, 1)]
    found: list[Field | None] = []
    for i, field in enumerate(fields):
        if field is None or field.axis is None:
            found.append(field)
        elif field.axis in contracting[i]:
            found.append(field.all())
        elif field.axis in batch[i]:
            found.append(field.on(list(batch[i]).index(field.axis)))
        else:
            before = len(batch[0]) + (len(free[0]) if i else 0)
            found.append(field.on(before + free[i].index(field.axis)))
    return [union(found)]


def reshaped(
    equation: core.JaxprEqn, both: tuple[Field | None, Field | None]
) -> tuple[Field | None, Field | None]:
    """The fields of a reshaped array, in both directions."""
    old, new = (v.aval.shape for v in (equation.invars[0], equation.outvars[0]))  # type: ignore[attr-defined]
    groups = _groups(old, new)
    carrying = [None if field is None else field.axis for field in both]
    found: list[Field | None] = []
    for direction, field in enumerate(both):
        if field is None or field.axis is None:
            found.append(field)
            continue
        if old[field.axis] == 1:
            found.append(field.on(None))
            continue
        before, after = next(pair for pair in groups if field.axis in pair[0])
        others = [axis for axis in before if axis != field.axis]
        if len(before) == len(after) == 1:
            found.append(field.on(after[0]))
        elif field.merged:
            split = tuple(new[axis] for axis in after) if len(before) == 1 else ()
            found.append(_split_again(field, after, split))
        elif len(before) == 1:
            size = math.prod(new[axis] for axis in after[1:])
            found.append(field.windows(size, size).on(after[0]))
        elif len(after) > 1:
            found.append(field.all())
        elif before[0] == field.axis and carrying[1 - direction] not in others:
            times = math.prod(old[axis] for axis in others)
            found.append(field.repeated(times).on(after[0]))
        else:
            merged = tuple(old[axis] for axis in before), before.index(field.axis)
            found.append(dataclasses.replace(field, axis=after[0], merged=merged))
    return found[0], found[1]


def _split_again(field: Field, axes: Sequence[int], sizes: tuple[int, ...]) -> Field:
    """The field of a merged axis that becomes ``axes`` of these sizes."""
    assert field.merged is not None
    merged, place = field.merged
    alone = dataclasses.replace(field, merged=None)
    if sizes == merged:
        return alone.on(axes[place])
    if place == 1 and len(merged) == 2 and sizes == (merged[0], merged[1] + 1):
        # Copies that are cut into pieces of one more than their length: each starts one position
        # further. What runs over into the next copy lies beyond the last window.
        return alone.windows(merged[0]).on(axes[1])
    return field.all()


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of axes, without those of one position, that have equal sizes."""
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    found: list[tuple[list[int], list[int]]] = []
    while left:
        before, after = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(old[i] for i in before)) != (b := math.prod(new[i] for i in after)):
            if a < b:
                before.append(left.pop(0))
            else:
                after.append(right.pop(0))
        found.append((before, after))
    return found


_RULES: dict[str, Callable[[Any, Sequence[Field | None]], Sequence[Field | None]]] = {
    "conv_general_dilated": _convolution,
    "pad": _pad,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "concatenate": _concatenate,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "stack": _stack,
    "rev": _reverse,
    "dot_general": _dot,
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
}
