"""Which pixels of the image an activation depends on, followed through a traced network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

# Of equal shapes, but every output depends on all inputs along an axis.
_MIXING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "rev", "fft"}


@dataclasses.dataclass(frozen=True)
class Field:
    """The pixels that each position along an axis depends on, in one direction of the image.

    Position ``i = q * period + r`` depends on the pixels from ``step * q + low[r]`` to
    ``step * q + high[r]``, those outside of the image included; the period is ``len(low)``.

    Attributes:
        axis: of the array; None for an array that has no axis for this direction.
        step: pixels per period.
        low: the first pixel.
        high: the last pixel; an infinite one stands for the whole image.
        merged: the sides of the map whose rows and columns are one axis; None if they are not.
    """

    axis: int | None
    step: int = 1
    low: tuple[float, ...] = (0,)
    high: tuple[float, ...] = (0,)
    merged: tuple[int, int] | None = None

    @property
    def whole(self) -> bool:
        """Whether it is the whole image."""
        return math.inf in self.high

    @property
    def size(self) -> int | None:
        """Pixels of the largest field; None for the whole image."""
        if self.whole:
            return None
        return int(max(b - a for a, b in zip(self.low, self.high, strict=True))) + 1

    @property
    def stride(self) -> float | None:
        """Pixels between neighbouring positions."""
        return self.step / len(self.low) if self._slides else None

    @property
    def offset(self) -> float | None:
        """The centre of the first position's field; 0 is the centre of the first pixel."""
        return float(self.low[0] + self.high[0]) / 2 if self._slides else None

    @property
    def _slides(self) -> bool:
        return self.axis is not None and not self.whole and self.merged is None

    def at(self, i: int) -> tuple[float, float]:
        """The first and the last pixel of a position."""
        q, r = divmod(i, len(self.low))
        return self.step * q + self.low[r], self.step * q + self.high[r]

    def on(self, axis: int | None) -> Field:
        """This field along another axis of an array."""
        return dataclasses.replace(self, axis=axis)

    def all(self, axis: int | None = None) -> Field:
        """The whole image."""
        return Field(axis, high=(math.inf,), low=(-math.inf,))

    def windows(
        self, size: int, stride: int = 1, before: int = 0, spread: int = 1, dilation: int = 1
    ) -> Field:
        """The field of windows of positions.

        Args:
            size: positions of a window.
            stride: between windows.
            before: padded positions before the first.
            spread: of the input: one more than the zeros between positions (``lhs_dilation``).
            dilation: of the window.
        """
        if self.whole or self.axis is None or (self.merged and size > 1):
            return self.all(self.axis)
        period = len(self.low) * spread // math.gcd(len(self.low) * spread, stride)
        found = []
        for r in range(period):
            taps = [r * stride - before + k * dilation for k in range(size)]
            pixels = [self.at(tap // spread) for tap in taps if tap % spread == 0]
            found.append((min((a for a, _ in pixels), default=math.inf),
                          max((b for _, b in pixels), default=-math.inf)))  # fmt: skip
        step = self.step * stride * period // (spread * len(self.low))
        low, high = zip(*found, strict=True)
        return dataclasses.replace(self, step=step, low=low, high=high)

    def repeated(self, times: int) -> Field:
        """The field where each position is repeated."""
        low, high = (tuple(x for x in v for _ in range(times)) for v in (self.low, self.high))
        return dataclasses.replace(self, low=low, high=high)


def union(fields: Sequence[Field | None]) -> Field | None:
    """The field of an elementwise function."""
    found = [field for field in fields if field is not None]
    if len(set(found)) <= 1:
        return found[0] if found else None
    axes = {field.axis for field in found if field.axis is not None}
    axis = axes.pop() if len(axes) == 1 else None
    rates = {field.step / len(field.low) for field in found if not field.whole}
    alike = {field.axis for field in found} == {axis} and len(rates) == 1
    if axis is None or not alike or any(field.whole for field in found):
        return found[0].all(axis)
    period = math.lcm(*(len(field.low) for field in found))
    pixels = [[field.at(r) for field in found] for r in range(period)]
    return Field(
        axis,
        found[0].step * period // len(found[0].low),
        tuple(min(a for a, _ in each) for each in pixels),
        tuple(max(b for _, b in each) for each in pixels),
        found[0].merged,
    )


def outputs(equation: core.JaxprEqn, fields: Sequence[Field | None]) -> list[Field | None]:
    """The fields of an equation's outputs, in one direction, from those of its inputs.

    What mixes all positions of an axis (means, attention, dense layers), and operations that are
    not known, give the whole image: no field is smaller than the true one.
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
    field = fields[along[0]]
    assert field is not None
    if len(along) > 1 or sum(each is not None for each in fields) > 1:
        return [field.all(axis)]
    before = sum(v.aval.shape[axis] for v in equation.invars[: along[0]])  # type: ignore[attr-defined]
    return [field.windows(1, before=before) if before else field]


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
            sides = tuple(new[axis] for axis in after)
            split = len(before) == 1 and sides == field.merged
            found.append(
                dataclasses.replace(field, axis=after[direction], merged=None)
                if split
                else field.all()
            )
        elif len(before) == 1:
            size = math.prod(new[axis] for axis in after[1:])
            found.append(field.windows(size, size).on(after[0]))
        elif len(after) > 1:
            found.append(field.all())
        elif carrying[1 - direction] in others:
            sides_ = (old[before[0]], old[before[1]]) if len(before) == 2 else (0, 0)
            found.append(dataclasses.replace(field, axis=after[0], merged=sides_))
        elif before[0] == field.axis:
            times = math.prod(old[axis] for axis in others)
            found.append(field.repeated(times).on(after[0]))
        else:
            found.append(field.all())
    return found[0], found[1]


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
    "split": _split,
    "concatenate": _concatenate,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "dot_general": _dot,
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
}
