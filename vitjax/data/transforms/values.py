"""Annotations of what pipelines hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vitjax.core.validation import Bounds, Constraint, PositiveFloat, Side


@dataclass(frozen=True)
class Ascending(Constraint):
    """A pair of numbers, the first not above the second."""

    @property
    def words(self) -> str:
        """The constraint as it follows "must be"."""
        return "in ascending order"

    def allows(self, value: Any) -> bool:
        """Whether the pair is in ascending order."""
        return bool(value[0] <= value[1])


Margin = Annotated[int, Bounds(at_least=0, at_most=2**14)]  # in pixels
Sides = Side | tuple[Side, Side]
Span = Annotated[tuple[PositiveFloat, PositiveFloat], Ascending()]
# A factor of sides, and a distance in pixels: beyond these no image is left.
_Zoom = Annotated[float, Bounds(at_least=0.001, at_most=1000)]
ZoomSpan = Annotated[tuple[_Zoom, _Zoom], Ascending()]
Distance = Annotated[float, Bounds(at_least=0, at_most=2**14)]
Area = Annotated[float, Bounds(above=0, at_most=1)]
AreaSpan = Annotated[tuple[Area, Area], Ascending()]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """``size`` as (height, width): one number stands for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
