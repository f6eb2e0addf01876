"""The shapes of one folder of images with the textures of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from vitjax.core.text import near_match, shortened
from vitjax.core.validation import Bounds, Fraction, NonNegativeInt, PositiveInt
from vitjax.data.errors import DataError
from vitjax.data.identity import Identified, Identity, of_words
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.sample import Sample
from vitjax.data.sources.base import HeldOut, LabelledSplit, Source, register
from vitjax.data.sources.folder import folder
from vitjax.data.sources.shape_texture import CONFLICT
from vitjax.data.stylize import stylized
from vitjax.data.transforms.pipeline import Pipeline, parse

ImageSize = Annotated[int, Bounds(at_least=4, at_most=2**12)]
Grid = Annotated[int, Bounds(at_least=1, at_most=2**10)]


@dataclass(frozen=True, eq=False)
class StylizedSplit(Identified):
    """A `vitjax.data.sources.shape_texture.CueSplit` of pairs of images.

    Attributes:
        shapes: images whose shape is kept.
        texture_images: images whose texture is taken.
        indices: the shape image of each example, (examples,).
        chosen: the texture image of each example, (examples,).
        fitting: brings images to one size.
        seed: of the shuffling.
        grid: as of `vitjax.data.stylize.stylized`.
        mix: likewise.
    """

    shapes: LabelledSplit
    texture_images: LabelledSplit
    indices: np.ndarray
    chosen: np.ndarray
    fitting: Pipeline
    seed: int
    grid: int
    mix: float

    @property
    def labels(self) -> np.ndarray:
        """Class of each shape."""
        return self.shapes.labels[self.indices]

    @property
    def textures(self) -> np.ndarray:
        """Class of each texture."""
        return self.texture_images.labels[self.chosen]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Sample:
        """The image, labelled by its shape; raises CorruptImage if one of the two is."""
        shape, texture = (
            self.fitting.fixed(split.read(int(number)).image)
            for split, number in (
                (self.shapes, self.indices[index]),
                (self.texture_images, self.chosen[index]),
            )
        )
        rng = np.random.default_rng([self.seed, index])
        image = stylized(shape, texture, rng, grid=self.grid, mix=self.mix)
        return Sample(image, self.labels[index])

    def name(self, index: int) -> str:
        """The file of the shape, and that of the texture."""
        texture = self.texture_images.name(int(self.chosen[index]))
        shape = self.shapes.name(int(self.indices[index]))
        return f"{shape} with the texture of {texture}"

    def identity(self) -> Identity:
        """The files of shapes and textures, and the settings."""
        files = [
            split.identity() if isinstance(split, Identified) else len(split)
            for split in (self.shapes, self.texture_images)
        ]
        chosen = (self.indices.tolist(), self.chosen.tolist())
        words = (files, chosen, self.fitting.text, self.seed, self.grid, self.mix)
        return of_words("cue_folders", *words)._replace(labels=self.labels)


@register("cue_folders")
def cue_folders(
    shapes: str,
    textures: str,
    image_size: ImageSize = 64,
    mix: Fraction = 1.0,
    grid: Grid = 4,
    val_fraction: HeldOut | None = None,
    test_fraction: HeldOut | None = None,
    split_seed: NonNegativeInt = 0,
    max_pixels: PositiveInt = MAX_PIXELS,
) -> Source:
    """Images of a folder ``shapes`` with the textures of images of a folder ``textures``.

    Both are folders with the same class folders, as of the source ``folder``. Each image of
    ``shapes`` is an example: in ``train``, ``val`` and ``test`` with a random texture image of its
    own class, and in ``conflict``, which has those of ``test`` (of the last split, if there is no
    ``test``), of another class. Textures are of the same split as shapes. See
    `vitjax.data.stylize.stylized`.

    Args:
        shapes: a folder of images.
        textures: a folder of images.
        image_size: height and width of the images: the middle of the resized files.
        mix: the fraction of the Fourier amplitude that is the texture's.
        grid: patches along each side that the texture image is shuffled in.
        val_fraction: as of the source ``folder``.
        test_fraction: as of the source ``folder``.
        split_seed: selects the examples that are held out, and the textures.
        max_pixels: the pixels of the largest image that is read.

    Raises:
        DataError: the folders have other classes or splits than each other, or one alone; or as of
            the source ``folder``.
    """
    of_shapes, of_textures = (
        folder(
            path,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            max_pixels=max_pixels,
        )
        for path in (shapes, textures)
    )
    check_same_classes(of_shapes, of_textures, shapes, textures)

    def split(name: str, agreeing: bool = True) -> StylizedSplit:
        return combined(
            of_shapes,
            of_textures,
            name,
            image_size,
            seed=split_seed,
            grid=grid,
            mix=mix,
            agreeing=agreeing,
        )

    splits = {name: split(name) for name in of_shapes.splits}
    splits[CONFLICT] = split("test" if "test" in splits else list(splits)[-1], agreeing=False)
    notes = tuple(dict.fromkeys((*of_shapes.notes, *of_textures.notes)))
    return Source(splits, of_shapes.class_names, notes=notes)


def combined(
    shapes: Source,
    textures: Source,
    split: str,
    image_size: int,
    *,
    seed: int = 0,
    grid: int = 4,
    mix: float = 1.0,
    agreeing: bool = True,
    most: int | None = None,
) -> StylizedSplit:
    """The images of a split of two sources with the same classes, combined.

    Args:
        shapes: the source of shapes.
        textures: the source of textures.
        split: the name of a split of both.
        image_size: height and width in pixels.
        seed: chooses the texture image of each shape image.
        grid: as of `vitjax.data.stylize.stylized`.
        mix: likewise.
        agreeing: whether textures are of the class of the shape, or of any other class.
        most: the number of examples at most, evenly spaced; None for one per shape image.

    Raises:
        DataError: ``textures`` has no such split, or the patches would be smaller than a pixel.
    """
    if grid > image_size:
        raise DataError(
            f"grid = {grid}: images of {image_size} x {image_size} pixels have at most {image_size}"
            " patches along each side"
        )
    held, images = shapes.split(split), textures.split(split)
    of_class = [np.flatnonzero(images.labels == c) for c in range(len(shapes.class_names))]
    count = len(held) if most is None else min(most, len(held))
    indices = np.linspace(0, len(held) - 1, count).round().astype(np.int64)
    chosen = np.empty(count, np.int64)
    for place, (index, label) in enumerate(
        zip(indices.tolist(), held.labels[indices].tolist(), strict=True)
    ):
        rng = np.random.default_rng([seed, int(agreeing), index])
        classes = [c for c, files in enumerate(of_class) if len(files) and (c == label) == agreeing]
        if not classes:
            raise DataError(
                f"split {split!r} has no texture image of class {shapes.class_names[label]!r}"
            )
        chosen[place] = rng.choice(of_class[rng.choice(classes)])
    fitting = parse(f"resize({image_size}) | center_crop({image_size})")
    return StylizedSplit(held, images, indices, chosen, fitting, seed, grid, mix)


def check_same_classes(one: Source, other: Source, shapes: str, textures: str) -> None:
    """Checks that two sources can be combined.

    Args:
        one: the source of shapes.
        other: the source of textures.
        shapes: the folder of the first, for errors.
        textures: the folder of the second.

    Raises:
        DataError: their classes differ, or there is one alone; the message gives the near match.
    """
    for have, lack, path in (
        (one.class_names, other.class_names, textures),
        (other.class_names, one.class_names, shapes),
    ):
        missing = [name for name in have if name not in lack]
        if missing:
            raise DataError(
                f"{path} has no class {missing[0]!r}{near_match(missing[0], lack)}: the folders of"
                f" shapes and of textures need the same classes (it has: {shortened(lack, 10)})"
            )
    if len(one.class_names) < 2:
        raise DataError(f"{shapes} has one class alone; shape and texture need two to differ")
