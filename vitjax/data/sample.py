"""One example: an image and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# The class of pixels that count neither in a loss nor in a metric.
IGNORE = -1


# Not frozen, which would make each new sample fifteen times as expensive; treat it as if it were.
@dataclass(eq=False, slots=True)
class Sample:
    """An image and what is known of it; what a source does not know is None.

    Sources make samples, and transforms make new ones of them; none is changed in place.

    Attributes:
        image: uint8, or float32 in [0, 1], (height, width, channels).
        label: class index; or with target ``"number"`` a float, or float32 of shape (numbers,).
        mask: class of each pixel, int32 of shape (height, width); `IGNORE` where it does not count.
        instances: object of each pixel, int32 of shape (height, width); 0 for none.
        boxes: float32 of shape (objects, 4): x1, y1, x2, y2 in pixels. They are edges: a box of the
            first pixel alone is (0, 0, 1, 1).
        box_labels: class index of each box, int32 of shape (objects,).
        weight: factor of the loss of each pixel, float32 of shape (height, width).
        second_image: another image of the same scene and size, such as the right one of a stereo
            pair.
        text: a caption.
    """

    image: np.ndarray
    label: int | float | np.ndarray | None = None
    mask: np.ndarray | None = None
    instances: np.ndarray | None = None
    boxes: np.ndarray | None = None
    box_labels: np.ndarray | None = None
    weight: np.ndarray | None = None
    second_image: np.ndarray | None = None
    text: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.image.shape[:2]
        return height, width

    def replace(self, **fields: Any) -> Sample:
        """The sample with other values of ``fields``."""
        changed = Sample(
            self.image, self.label, self.mask, self.instances, self.boxes, self.box_labels,
            self.weight, self.second_image, self.text,
        )  # fmt: skip
        for name, value in fields.items():
            setattr(changed, name, value)
        return changed
