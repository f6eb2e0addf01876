"""Geometry of a complete sample: one function moves image, mask, instances, weight and boxes.

Images are resampled as the caller says, weights bilinearly, masks and instances by nearest
neighbour. Boxes are clipped to the image; those without area are dropped, with their labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np

from vitjax.data.sample import IGNORE, Sample
from vitjax.data.transforms.base import Size
from vitjax.data.transforms.pixels import resized

Border = Literal["mirror", "black"]

IMAGES = ("image", "second_image")
INTEGERS = ("mask", "instances")
_FIELDS = (*IMAGES, *INTEGERS, "weight")
# What stands outside of an image: black, of a class that does not count.
_OUTSIDE = {"image": 0, "second_image": 0, "mask": IGNORE, "instances": 0, "weight": 0}


def mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Which of ``length`` pixels stand at ``start``, ``start + 1``, ... when mirrored at both ends.

    The edge occurs once: -1 is pixel 1, and ``length`` is pixel ``length - 2``. Any distance works:
    mirror images are mirrored again.

    Returns:
        int64 of shape (count,).
    """
    if length == 1:
        return np.zeros(count, np.int64)
    place = np.arange(start, start + count) % (2 * length - 2)
    return np.minimum(place, 2 * length - 2 - place)


def each_array(sample: Sample, function: Callable[[str, np.ndarray], np.ndarray]) -> dict[str, Any]:
    """The fields of ``sample`` that are arrays of pixels, after ``function(name, array)``."""
    arrays = ((name, getattr(sample, name)) for name in _FIELDS)
    return {name: function(name, array) for name, array in arrays if array is not None}


def with_boxes(sample: Sample, boxes: np.ndarray, size: Size) -> dict[str, np.ndarray]:
    """The fields ``boxes`` and ``box_labels`` for boxes that moved.

    Args:
        sample: with the labels.
        boxes: where each box of the sample is now, (boxes, 4), in part outside perhaps.
        size: (height, width) of the image now.
    """
    height, width = size
    clipped = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    kept = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    fields = {"boxes": clipped[kept]}
    if sample.box_labels is not None:
        fields["box_labels"] = sample.box_labels[kept]
    return fields


def has_geometry(sample: Sample) -> bool:
    """Whether ``sample`` has fields besides images that move with the image's pixels."""
    fields = (sample.mask, sample.instances, sample.weight, sample.boxes)
    return any(field is not None for field in fields)


def window(sample: Sample, top: int, left: int, size: Size, border: Border = "mirror") -> Sample:
    """The part of ``size`` whose first pixel is (top, left).

    Args:
        sample: what to cut.
        top: in pixels; negative or beyond the image too.
        left: the same.
        size: (height, width) of the part.
        border: what stands outside of the image: "mirror", all fields mirrored without doubling the
            edge (boxes are not: a mirror image has none); or "black", whose pixels are of class
            `IGNORE`, no instance and weight 0.
    """
    height, width = sample.size
    inside = 0 <= top <= height - size[0] and 0 <= left <= width - size[1]
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])

    def cut(name: str, array: np.ndarray) -> np.ndarray:
        if inside:
            return array[rows, columns]
        if border == "mirror":
            more = (
                max(-top, 0), max(top + size[0] - height, 0),
                max(-left, 0), max(left + size[1] - width, 0),
            )  # fmt: skip
            contiguous = np.ascontiguousarray(array)
            wide = cv2.copyMakeBorder(contiguous, *more, cv2.BORDER_REFLECT_101)
            wide = wide.reshape(*wide.shape[:2], *array.shape[2:])
            return wide[max(top, 0) :, max(left, 0) :][: size[0], : size[1]]
        filled = np.full((*size, *array.shape[2:]), _OUTSIDE[name], array.dtype)
        above, below = max(top, 0), max(min(top + size[0], height), top, 0)
        before, after = max(left, 0), max(min(left + size[1], width), left, 0)
        part = array[above:below, before:after]
        filled[above - top : below - top, before - left : after - left] = part
        return filled

    fields = each_array(sample, cut)
    if sample.boxes is not None:
        fields |= with_boxes(sample, sample.boxes - np.array([left, top, left, top]), size)
    return sample.replace(**fields)


def padded(sample: Sample, size: Size) -> Sample:
    """The sample with mirrored pixels below and to the right that are of class `IGNORE`."""
    height, width = sample.size
    if (height, width) == size:
        return sample
    larger = window(sample, 0, 0, size)
    for name, outside in (("mask", IGNORE), ("instances", 0)):
        array = getattr(larger, name)
        if array is not None:  # which `window` made just now, so it can be written to
            array[height:] = outside
            array[:, width:] = outside
    return larger


def flipped(sample: Sample, rows: bool = False, columns: bool = False) -> Sample:
    """The sample upside down (``rows``), with left and right exchanged (``columns``), or both."""
    if not (rows or columns):
        return sample
    down, right = slice(None, None, -1 if rows else 1), slice(None, None, -1 if columns else 1)
    fields = each_array(sample, lambda name, array: array[down, right])
    if sample.boxes is not None:
        height, width = sample.size
        x1, y1, x2, y2 = sample.boxes.T
        if rows:
            y1, y2 = height - y2, height - y1
        if columns:
            x1, x2 = width - x2, width - x1
        fields["boxes"] = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)
    return sample.replace(**fields)


def turned(sample: Sample, turns: int) -> Sample:
    """The sample after ``turns`` quarter turns, counter-clockwise."""
    fields = each_array(sample, lambda name, array: np.rot90(array, turns))
    if sample.boxes is not None:
        boxes = sample.boxes
        height, width = sample.size
        for _ in range(turns % 4):
            x1, y1, x2, y2 = boxes.T
            boxes = np.stack([y1, width - x2, y2, width - x1], axis=1).astype(np.float32)
            height, width = width, height
        fields["boxes"] = boxes
    return sample.replace(**fields)


def rescaled(
    sample: Sample,
    size: Size,
    interpolation: str,
    part: tuple[int, int, int, int] | None = None,
) -> Sample:
    """The sample, or a part of it, at another size.

    Args:
        sample: what to resize.
        size: the new (height, width).
        interpolation: of images, with antialiasing: see `pixels.resized`.
        part: (left, top, right, bottom) in pixels of what to take; None takes all.
    """
    if part is None and size == sample.size:
        return sample
    left, top, right, bottom = part or (0, 0, sample.size[1], sample.size[0])
    if (bottom - top, right - left) == size:
        return window(sample, top, left, size)
    height, width = bottom - top, right - left
    rows = np.minimum(((np.arange(size[0]) + 0.5) * height / size[0]).astype(int), height - 1)
    columns = np.minimum(((np.arange(size[1]) + 0.5) * width / size[1]).astype(int), width - 1)

    def scale(name: str, array: np.ndarray) -> np.ndarray:
        if name in IMAGES:
            return resized(array, size, interpolation, part)
        if name in INTEGERS:
            return array[top + rows][:, left + columns]
        return resized(array[..., None], size, "bilinear", part)[..., 0]

    fields = each_array(sample, scale)
    if sample.boxes is not None:
        factors = np.array([size[1] / width, size[0] / height] * 2)
        moved = (sample.boxes - [left, top, left, top]) * factors
        fields |= with_boxes(sample, moved, size)
    return sample.replace(**fields)


def rescaled_window(
    sample: Sample,
    size: Size,
    interpolation: str,
    top: int,
    left: int,
    part: Size,
    border: Border = "mirror",
) -> Sample:
    """The part of the sample at another size, without making the rest of it.

    Pixels are those of `window` of `rescaled`, up to rounding: Pillow resizes rows and columns one
    after the other, rounds in between, and orders the two by the size of the part. For sides that
    grow; ``"area"`` is bilinear there.

    Args:
        sample: what to resize.
        size: the (height, width) of the complete sample after resizing.
        interpolation: of images.
        top: of the part, in the resized sample.
        left: the same.
        part: (height, width) of the part.
        border: what stands outside of the resized sample.
    """
    (height, width), old = size, sample.size
    # What is inside, with as many pixels around it as are mirrored.
    above, below = (min(max(p, 0), height) for p in _reach(top, part[0], height, border))
    before, after = (min(max(p, 0), width) for p in _reach(left, part[1], width, border))
    down, right = old[0] / height, old[1] / width
    box = (before * right, above * down, after * right, below * down)
    rows = np.minimum(((np.arange(above, below) + 0.5) * down).astype(int), old[0] - 1)
    columns = np.minimum(((np.arange(before, after) + 0.5) * right).astype(int), old[1] - 1)
    inner = (below - above, after - before)

    def scale(name: str, array: np.ndarray) -> np.ndarray:
        if name in IMAGES:
            return resized(array, inner, interpolation, box)
        if name in INTEGERS:
            return array[rows][:, columns]
        return resized(array[..., None], inner, "bilinear", box)[..., 0]

    fields = each_array(sample, scale)
    if sample.boxes is not None:
        moved = sample.boxes / [right, down, right, down] - [before, above, before, above]
        fields |= with_boxes(sample, moved, inner)
    return window(sample.replace(**fields), top - above, left - before, part, border)


def _reach(start: int, count: int, length: int, border: Border) -> tuple[int, int]:
    """From and to where pixels are needed, for those at ``start`` to ``start + count``."""
    if border == "black":
        return start, start + count
    outside = max(-start, start + count - length, 0)
    return min(start, length - 1 - outside), max(start + count, outside + 1)


def warped(sample: Sample, rows: np.ndarray, columns: np.ndarray) -> Sample:
    """The sample resampled: pixel (i, j) comes from (rows[i, j], columns[i, j]), bilinearly.

    What comes from outside is the sample mirrored at its borders, without doubling the edge. A box
    becomes the smallest one around all pixels that come from inside of it.

    Args:
        sample: what to resample.
        rows: in pixels, (height, width), also outside.
        columns: the same.
    """
    x, y = columns.astype(np.float32), rows.astype(np.float32)

    def move(name: str, array: np.ndarray) -> np.ndarray:
        if name in INTEGERS:
            # As floats: OpenCV does not resample 32-bit integers.
            nearest = cv2.remap(
                array.astype(np.float32), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
            )
            return nearest.astype(np.int32)
        contiguous = np.ascontiguousarray(array)
        linear = cv2.remap(contiguous, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return linear.reshape(*x.shape, *array.shape[2:])

    fields = each_array(sample, move)
    if sample.boxes is not None:
        boxes = [_box_around(_inside(box, x + 0.5, y + 0.5)) for box in sample.boxes]
        fields |= with_boxes(sample, np.asarray(boxes, np.float32).reshape(-1, 4), sample.size)
    return sample.replace(**fields)


def _inside(box: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where (x, y) is inside of ``box``."""
    inside: np.ndarray = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return inside


def _box_around(inside: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box around the True pixels; an empty one where all are False."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def affine(
    sample: Sample,
    matrix: np.ndarray,
    image: Callable[[np.ndarray], np.ndarray] | None = None,
    fill: float = 0.0,
) -> Sample:
    """The sample moved by an affine map; what comes from outside is black and does not count.

    A box becomes the smallest one around its moved corners.

    Args:
        sample: what to move.
        matrix: from old to new (x, y) of the middles of pixels, (2, 3).
        image: moves an image, where that is done by another library; None resamples it bilinearly.
        fill: value of image pixels that come from outside.
    """
    height, width = sample.size

    def move(name: str, array: np.ndarray) -> np.ndarray:
        if name in IMAGES:
            return image(array) if image is not None else _affine_image(array, matrix, fill)
        flags = cv2.INTER_NEAREST if name in INTEGERS else cv2.INTER_LINEAR
        moved = cv2.warpAffine(
            array.astype(np.float32),
            matrix,
            (width, height),
            flags=flags,
            borderValue=(float(_OUTSIDE[name]),) * 4,
        )
        return moved.astype(array.dtype)

    fields = each_array(sample, move)
    if sample.boxes is not None:
        fields |= with_boxes(sample, _affine_boxes(sample.boxes, matrix), sample.size)
    return sample.replace(**fields)


def _affine_image(image: np.ndarray, matrix: np.ndarray, fill: float) -> np.ndarray:
    height, width, channels = image.shape
    planes = [
        cv2.warpAffine(
            np.ascontiguousarray(image[..., c : c + 4]),
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderValue=(fill,) * 4,
        ).reshape(height, width, -1)
        for c in range(0, channels, 4)  # OpenCV warps four channels at most
    ]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def _affine_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    corners = (
        boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - 0.5
    )  # (boxes, 4, 2): from edges to middles
    moved = corners @ matrix[:, :2].T + matrix[:, 2] + 0.5
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
