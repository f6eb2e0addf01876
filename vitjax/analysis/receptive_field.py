"""Which pixels of the image an activation depends on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Field:
    """The pixels that each position along an axis depends on, in one direction of the image.

    Position ``i = q * period + r`` depends on the pixels from ``step * q + low[r]`` to
    ``step * q + high[r]``, those outside of the image included; the period is ``len(low)``.

    Attributes:
        axis: of the array; None for an array that has no axis for this direction.
        step: pixels per period; negative if the positions are in reverse order.
        low: the first pixel.
        high: the last pixel; an infinite one stands for the whole image.
        merged: the sizes of the axes that became this axis by a reshape, and which of them has the
            positions; None if it is an axis of its own.
    """

    axis: int | None
    step: int = 1
    low: tuple[float, ...] = (0,)
    high: tuple[float, ...] = (0,)
    merged: tuple[tuple[int, ...], int] | None = None

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
        return abs(self.step) / len(self.low) if self._slides else None

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
        if self.whole or self.axis is None or (self.merged and (size > 1 or stride > 1)):
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

    def reversed(self, count: int) -> Field:
        """The field where ``count`` positions are in reverse order."""
        if self.whole or self.axis is None or self.merged:
            return self.all(self.axis)
        pixels = [self.at(count - 1 - r) for r in range(len(self.low))]
        low, high = zip(*pixels, strict=True)
        return dataclasses.replace(self, step=-self.step, low=low, high=high)

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
    alike = len({(field.axis, field.merged) for field in found}) == len(rates) == 1
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
