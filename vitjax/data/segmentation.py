"""Batches of images and masks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from vitjax.core.machine import process_cores
from vitjax.data.any_image import AnyImage, read_any_image
from vitjax.data.blank import BlankSplit
from vitjax.data.class_order import ClassList
from vitjax.data.dataset import MaskDataset
from vitjax.data.errors import CorruptImage
from vitjax.data.examples import (
    Arrays,
    ExampleBatches,
    Examples,
    MaskArrays,
    field_of,
    first_readable,
    read,
    skippable,
)
from vitjax.data.image_files import measure
from vitjax.data.images import KINDS, ImageData
from vitjax.data.iterator import Batch
from vitjax.data.preparation import Preparation
from vitjax.data.sample import IGNORE, Sample
from vitjax.data.settings import MaskSettings
from vitjax.data.share import Share
from vitjax.data.sources.mask_classes import Colour, MaskReader, MaskSource
from vitjax.data.sources.mask_discovery import values_of
from vitjax.data.transforms.base import Size
from vitjax.data.transforms.pipeline import Pipeline, parse
from vitjax.data.weight_maps import WeightMaps
from vitjax.losses.class_weights import inverse


@KINDS.register("mask", label="a mask with a class per pixel")
class SegmentationData(ImageData, MaskDataset):
    """Batches of images with a class for every pixel.

    Training batches are dicts of ``image`` (b, height, width, channels), uint8 or float32,
    ``label`` (b, height, width) int32, -1 where a pixel does not count, ``mask`` (b,) bool, and
    with a ``weight_map`` also ``weight`` (b, height, width) float32. Evaluation batches have no
    weight and hold complete images: where sizes differ, smaller ones are padded below and to the
    right, to the largest height and width of the split, with mirrored pixels whose label is -1.

    Attributes:
        image_shape: (height, width, channels) of the images in an evaluation batch, padded;
            `example` and `read_image` return images of their own size.
    """

    target = "mask"
    described = ("class_names", "examples", "sizes", "image.channels", "image.dtype")
    settings_class = MaskSettings
    settings: MaskSettings
    source: MaskSource

    def __init__(self, source: MaskSource, seed: int = 0, **keywords: Any):
        """Checks everything and reads one image per pipeline; see `ImageData`."""
        self._weight_maps: WeightMaps | None = None
        self._largest: dict[str, Size] = {}
        super().__init__(source, seed, **keywords)
        if self.settings.weight_map is not None:
            self.settings.weight_map.check(self.class_names)

    @property
    def preparation(self) -> Preparation:
        """As of `ImageData`; files are read with the source's channels."""
        return dataclasses.replace(
            super().preparation,
            channels=self.source.channels,
            sixteen_bits=True,
            any_size=self._eval_pipeline.sized(None) is None,
        )

    @property
    def class_values(self) -> tuple[int, ...]:
        """For each class, the value that stands for it in the source's masks."""
        return self.source.values or tuple(range(self.num_classes))

    @property
    def class_list(self) -> ClassList:
        """The classes, and their values or colours in masks."""
        return self.source.class_list

    @property
    def class_colors(self) -> tuple[Colour, ...] | None:
        """For each class, its colour in the source's masks; None if they have none."""
        return self.source.class_colors

    def class_pixels(self, split: str) -> np.ndarray:
        """The pixels of each class in all masks of ``split``: int64 of shape (classes,).

        Reads all masks, in threads; of a source of files, without the images.
        """
        samples = self.source.split(split)

        def counted(index: int) -> np.ndarray:
            try:
                with skippable(self._skip_corrupt):
                    if isinstance(samples, MaskReader):
                        label = samples.mask(index)
                    else:
                        label = field_of(read(samples, index), "mask", "mask", samples.name(index))
            except CorruptImage:
                return np.zeros(self.num_classes, np.int64)
            counts = np.zeros(self.num_classes, np.int64)
            values, pixels = values_of(label)
            counts[values[values != IGNORE]] = pixels[values != IGNORE]
            return counts

        with ThreadPoolExecutor(process_cores()) as threads:
            return np.stack(list(threads.map(counted, range(len(samples))))).sum(axis=0)

    def describe(self) -> dict[str, Any]:
        """What `recall` needs, as JSON values: names and values of classes, examples, raw sizes."""
        image = self._first(self._trained).image
        sizes = {name: list(self._size(name)) for name in self.splits}
        values = self.class_list.values
        return {
            "class_names": list(self.class_names),
            # Classes that are colours have none.
            "class_values": None if values is None else list(values),
            "class_colors": self.class_colors and [list(color) for color in self.class_colors],
            "examples": {name: self.num_examples(name) for name in self.splits},
            "image": {"channels": image.shape[-1], "dtype": image.dtype.name},
            "sizes": sizes,
        }

    @classmethod
    def blank(cls, description: Mapping[str, Any], seed: int = 0, **keywords: Any) -> Self:
        """As of `ImageData`; each split has images of its largest size."""
        image, splits = description["image"], {}
        for name, count in description["examples"].items():
            size = tuple(description["sizes"][name])
            sample = Sample(
                np.zeros((*size, image["channels"]), image["dtype"]),
                mask=np.zeros(size, np.int32),
            )
            splits[name] = BlankSplit(sample, count, f"blank {name}")
        names = tuple(description["class_names"])
        values = description.get("class_values")
        colors = description.get("class_colors")  # which earlier runs did not record
        colors = tuple(tuple(color) for color in colors) if colors else None
        source = MaskSource(splits, names, image["channels"], values and tuple(values), colors)
        return cls(source, seed, **{**keywords, "sampler": None})

    def truth(self, split: str, index: int) -> np.ndarray:
        """The classes of the pixels of `example`, -1 where one does not count: (height, width).

        Raises:
            CorruptImage: it cannot be read.
        """
        mask = self._evaluated(split, index).mask
        assert mask is not None
        return mask

    def read_image(self, image: AnyImage) -> np.ndarray:
        """An image of any size made ready as an evaluated example is.

        Returns:
            (height, width, channels), uint8 or float32.

        Raises:
            DataError: it cannot be read.
        """
        return self.prepared(self.read_picture(image))

    def pages(self, image: AnyImage) -> int:
        """The number of images in a file; 1 for an image or an array.

        Raises:
            DataError: it cannot be read.
        """
        if not isinstance(image, str | os.PathLike):
            return 1
        return measure(image, self.max_pixels).pages

    def read_picture(self, image: AnyImage, page: int = 0) -> np.ndarray:
        """A page of an image as it is: (height, width, channels), uint8 or float32.

        Raises:
            DataError: it cannot be read.
        """
        return read_any_image(
            image,
            self.source.channels,
            page,
            sixteen_bits=True,
            max_pixels=self.max_pixels,
            any_range=self._any_range,
        )

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """The result of `read_picture` made ready as an evaluated example is."""
        return self._eval_pipeline.fixed(image)

    def restored(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """Maps of a result of `prepared`, at the size of the image that it was made of.

        Args:
            maps: floats, (height, width, channels).
            size: (height, width) of that image.
        """
        return self._eval_pipeline.undo(maps, size)

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: the shapes and dtypes of training, or of evaluation."""
        batch = super().example_batch(evaluated)
        if self.settings.weight_map is not None and not evaluated:
            batch["weight"] = np.ones(batch["label"].shape, np.float32)
        return batch

    def _train(self, share: Share) -> ExampleBatches:
        batches = super()._train(share)
        settings = self.settings.weight_map
        if settings is None:
            return batches
        if self._weight_maps is None:
            balance = np.ones(self.num_classes, np.float32)
            if settings.balance:
                balance = inverse(self.class_pixels("train"))
            self._weight_maps = WeightMaps(settings, balance)
        assert isinstance(batches.rows, Examples)
        rows = dataclasses.replace(batches.rows, weights=self._weight_maps)
        return dataclasses.replace(batches, rows=rows)

    def _arrays(self) -> Arrays:
        return MaskArrays()

    @classmethod
    def _parse(cls, text: str, where: str, evaluated: bool) -> Pipeline:
        return parse(text, where, complete=evaluated)

    def _examples(self, name: str, pipeline: Pipeline) -> Examples:
        examples = super()._examples(name, pipeline)
        if pipeline is not self._eval_pipeline:
            return examples
        if name not in self._largest:
            self._largest[name] = self._largest_of(name)
        size = self._largest[name]
        empty = {
            key: np.full((*size, *array.shape[2:]), array.flat[0], array.dtype)
            for key, array in examples.empty.items()
        }
        return dataclasses.replace(examples, empty=empty, fill=True)

    def _first(self, name: str) -> Sample:
        """The first sample of a split that can be read."""
        return first_readable(self.source.split(name), name, self._skip_corrupt)[0]

    def _largest_of(self, name: str) -> Size:
        """The greatest height and width in a split, as evaluated."""
        fixed = self._eval_pipeline.sized(None)
        if fixed is not None:
            return fixed
        sizes = [self._eval_pipeline.sized(size) for size in self._sizes(name)]
        return tuple(np.max([size for size in sizes if size], axis=0).tolist())

    def _size(self, name: str) -> Size:
        """The greatest raw height and width in a split; of ``train``, the first image's size."""
        if name == "train":
            return self._first(name).size
        return tuple(np.max(self._sizes(name), axis=0).tolist())

    def _sizes(self, name: str) -> list[Size]:
        """The raw sizes of all images of a split, without corrupt ones if these are skipped."""
        split = self.source.split(name)
        sizes = []
        for index in range(len(split)):
            try:
                with skippable(self._skip_corrupt):
                    sizes.append(split.size(index))
            except CorruptImage:
                continue
        return sizes
