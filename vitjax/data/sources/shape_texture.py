"""Drawn shapes with drawn textures: data in which shape and texture agree, or contradict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import cv2
import numpy as np

from vitjax.core.machine import check_memory
from vitjax.core.validation import Bounds, NonNegativeInt
from vitjax.data.identity import Identified, Identity, of_words
from vitjax.data.sample import Sample
from vitjax.data.sources.base import LabelledSplit, Source, register

# The name of the split whose images have the shape of one class and the texture of another.
CONFLICT = "conflict"

# Images are drawn with at least so many pixels along each side, and twice as large as they are, and
# averaged, which smooths edges.
_DRAWN = 96
_RADIUS = (0.55, 0.85)  # of a shape, where half of the image's side is 1
_DEGREES = 25.0  # of shapes and of textures, either way
_PERIOD = (0.16, 0.22)  # of a texture, as a fraction of the image's side


class CueSplit(LabelledSplit, Protocol):
    """A split whose images have a shape and a texture; `labels` are the classes of shapes."""

    @property
    def textures(self) -> np.ndarray:
        """Classes of the textures of all samples, int32 of shape (examples,)."""
        ...


@dataclass(frozen=True, eq=False)
class DrawnSplit(Identified):
    """A `CueSplit` of drawn images, which are kept once they are drawn.

    Attributes:
        seed: of the images.
        split: number of the split, which has images of its own.
        labels: class of each shape, int32 (examples,).
        textures: class of each texture, int32 (examples,).
        side: height and width in pixels.
        title: what errors call the split.
    """

    seed: int
    split: int
    labels: np.ndarray
    textures: np.ndarray
    side: int
    title: str
    _drawn: dict[int, Sample] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[object, ...]:
        # Drawing is as fast as sending images to a worker process.
        fields = (self.seed, self.split, self.labels, self.textures, self.side, self.title)
        return DrawnSplit, fields

    def read(self, index: int) -> Sample:
        """The image, labelled by its shape."""
        if index not in self._drawn:
            rng = np.random.default_rng([self.seed, self.split, index])
            image = draw(int(self.labels[index]), int(self.textures[index]), rng, self.side)
            self._drawn[index] = Sample(image, self.labels[index])
        return self._drawn[index]

    def name(self, index: int) -> str:
        """The split and the row."""
        return f"{self.title}[{index}]"

    def identity(self) -> Identity:
        """The settings that the images follow from, and the labels."""
        words = ("shape_texture", self.seed, self.split, self.side, self.textures.tolist())
        return of_words(*words)._replace(labels=self.labels)


Count = Annotated[int, Bounds(at_least=0, at_most=10**6)]


@register("shape_texture")
def shape_texture(
    image_size: Annotated[int, Bounds(at_least=16, at_most=2**10)] = 32,
    train: Annotated[int, Bounds(at_least=1, at_most=10**6)] = 3600,
    val: Count = 360,
    test: Count = 720,
    conflict: Count = 1440,
    drawing: NonNegativeInt = 0,
) -> Source:
    """Shapes filled with textures: `CLASSES`, each of which has a shape and a texture.

    In ``train``, ``val`` and ``test`` both are those of one class. In `CONFLICT` they are those of
    two classes, all ordered pairs equally often up to one, and the label is that of the shape; see
    `CueSplit`. Place, scale, rotation, colours and the phase of the texture are random. Images are
    uint8, (image_size, image_size, 3). The same keywords give the same images, and image 7 of a
    split does not depend on the number of images.

    Args:
        image_size: height and width in pixels; shapes and textures grow with it.
        train: images to train on.
        val: images to validate on.
        test: images to test on.
        conflict: images whose cues contradict each other.
        drawing: seed of the images.
    """
    check_memory(
        (train + val + test + conflict) * image_size**2 * 3,
        f"config.data.source = 'shape_texture': train = {train} with image_size = {image_size}",
        "it keeps all images in memory, so fewer or smaller ones are needed",
    )
    splits = {}
    for number, (name, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        labels = np.arange(count, dtype=np.int32) % len(CLASSES)
        if count:
            splits[name] = DrawnSplit(
                drawing, number, labels, labels, image_size, f"shape_texture {name}"
            )
    if conflict:
        pairs = np.arange(conflict) % (len(CLASSES) * (len(CLASSES) - 1))
        labels = (pairs % len(CLASSES)).astype(np.int32)
        textures = (labels + 1 + pairs // len(CLASSES)).astype(np.int32) % len(CLASSES)
        splits[CONFLICT] = DrawnSplit(
            drawing, 3, labels, textures, image_size, f"shape_texture {CONFLICT}"
        )
    return Source(splits, tuple(CLASSES))


def draw(shape: int, texture: int, rng: np.random.Generator, side: int) -> np.ndarray:
    """One image, uint8 (side, side, 3).

    Args:
        shape: class of the shape, a number of `CLASSES`.
        texture: class of the texture.
        rng: the source of all randomness.
        side: height and width in pixels.
    """
    shapes, textures = zip(*CLASSES.values(), strict=True)
    large = side * max(2, -(-_DRAWN // side))
    inside = _silhouette(shapes[shape](), rng, large)
    pattern = _filling(textures[texture], rng, large)
    # Dark, light and, behind the shape, between them: an outline is seen in any texture.
    dark, light, behind = (rng.uniform(*span, 3) for span in ((0.0, 0.3), (0.7, 1.0), (0.38, 0.62)))
    if rng.random() < 0.5:
        dark, light = light, dark
    filled = dark + pattern[..., None] * (light - dark)
    image = np.where(inside[..., None], filled, behind).astype(np.float32)
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.rint(image * 255).astype(np.uint8)


def _silhouette(outlines: list[np.ndarray], rng: np.random.Generator, large: int) -> np.ndarray:
    """Where a shape is, bool (large, large)."""
    radius = rng.uniform(*_RADIUS)
    angle = np.radians(rng.uniform(-_DEGREES, _DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.uniform(-1, 1, 2) * (1 - radius)
    canvas = np.zeros((large, large), np.uint8)
    points = [
        np.rint((radius * outline @ turn.T + shift + 1) / 2 * large * 16).astype(np.int32)
        for outline in outlines
    ]
    cv2.fillPoly(canvas, points, 1, shift=4)  # where outlines overlap there is a hole
    return canvas > 0


def _filling(
    texture: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray],
    rng: np.random.Generator,
    large: int,
) -> np.ndarray:
    """A texture of random phase, rotation and period: from 0 to 1, (large, large)."""
    period = rng.uniform(*_PERIOD) * large
    angle = np.radians(rng.uniform(-_DEGREES, _DEGREES))
    phase = rng.uniform(0, 8, 2).astype(np.float32)
    y, x = np.mgrid[:large, :large].astype(np.float32) / np.float32(period)
    cosine, sine = (np.float32(f(angle)) for f in (np.cos, np.sin))
    u = cosine * x + sine * y + phase[0]
    v = cosine * y - sine * x + phase[1]
    return texture(u, v, rng)


# Outlines of shapes within the unit circle, x to the right and y downwards.


def _around(radii: np.ndarray | float, count: int, start: float = -90) -> np.ndarray:
    """Points at equal angles, from an angle in degrees on."""
    angles = np.radians(start + 360 * np.arange(count) / count)
    return np.asarray(radii).reshape(-1, 1) * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle() -> list[np.ndarray]:
    return [_around(0.9, 72)]


def _square() -> list[np.ndarray]:
    return [_around(1.0, 4, 45)]


def _triangle() -> list[np.ndarray]:
    return [_around(1.0, 3)]


def _star() -> list[np.ndarray]:
    return [_around(np.tile([1.0, 0.42], 5), 10)]


def _cross() -> list[np.ndarray]:
    a, b = 0.95, 0.3
    corner = np.array([[b, -b], [a, -b], [a, b]])
    quarter = np.array([[0, -1], [1, 0]])
    return [np.concatenate([corner @ np.linalg.matrix_power(quarter, n) for n in (0, 3, 2, 1)])]


def _ring() -> list[np.ndarray]:
    return [_around(1.0, 72), _around(0.5, 72)]


def _crescent() -> list[np.ndarray]:
    outer = np.radians(np.linspace(40, 320, 60))
    inner = np.radians(np.linspace(300, 60, 60))
    one = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    tip = np.abs(one[0, 1])
    scale = tip / np.sin(inner[-1])
    other = scale * np.stack([np.cos(inner), np.sin(inner)], axis=1)
    other[:, 0] += one[0, 0] - other[-1, 0]
    return [np.concatenate([one, other])]


def _heart() -> list[np.ndarray]:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([x, -y - 2], axis=1) / 17]


def _arrow() -> list[np.ndarray]:
    half = np.array([[0, -1], [0.9, 0.0], [0.36, 0.0], [0.36, 0.95]])
    return [np.concatenate([half, half[:0:-1] * [-1, 1]])]


# Textures, from 0 to 1 at (u, v) in periods.


def _waves(u: np.ndarray) -> np.ndarray:
    """Equally wide bands of 0 and 1."""
    return (u % 1 < 0.5).astype(np.float32)


def _stripes(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _waves(u)


def _checks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.abs(_waves(u / 1.2) - _waves(v / 1.2))


def _dots(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3).astype(np.float32)


def _zigzag(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _waves(v + 1.2 * np.abs(u / 2 % 1 - 0.5))


def _rings(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle = rng.uniform(-1, 1, 2).astype(np.float32)
    distance = np.hypot(u - u.mean() + middle[0], v - v.mean() + middle[1])
    return _waves(distance + np.float32(rng.random()))


def _bricks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    row = np.floor(v / 0.8)
    mortar = (v / 0.8 % 1 < 0.25) | ((u / 1.6 + row / 2) % 1 < 0.14)
    return mortar.astype(np.float32)


def _net(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    thin = ((u + v) % 1.2 < 0.36) | ((u - v) % 1.2 < 0.36)
    return thin.astype(np.float32)


def _grain(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cells = (np.floor(3.5 * u).astype(np.int64), np.floor(3.5 * v).astype(np.int64))
    values = rng.random((128, 128))
    return values[cells[0] % 128, cells[1] % 128].astype(np.float32)


def _blobs(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(u)
    period = 1 / max(abs(float(u[0, 1] - u[0, 0])), abs(float(v[1, 0] - v[0, 0])))
    noise = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.2 * period)
    return (noise > np.median(noise)).astype(np.float32)


Outline = Callable[[], list[np.ndarray]]
Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

# The shape and the texture of each class.
CLASSES: dict[str, tuple[Outline, Texture]] = {
    "circle_stripes": (_circle, _stripes),
    "square_dots": (_square, _dots),
    "triangle_checks": (_triangle, _checks),
    "star_net": (_star, _net),
    "cross_rings": (_cross, _rings),
    "ring_grain": (_ring, _grain),
    "crescent_bricks": (_crescent, _bricks),
    "heart_zigzag": (_heart, _zigzag),
    "arrow_blobs": (_arrow, _blobs),
}
