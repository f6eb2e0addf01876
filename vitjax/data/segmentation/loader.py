"""Batches of images and masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitjax.data.batching import Rows, skippable
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.iterator import Batch, cores
from vitjax.data.loader import Batched
from vitjax.data.segmentation.pairs import IGNORE, Pair, PairSource, PairSplit
from vitjax.data.segmentation.pictures import measure, read_picture
from vitjax.data.segmentation.transforms import Size, padded, parse_pairs, size_after, undone
from vitjax.data.segmentation.weights import WeightMaps, WeightSettings, class_weights
from vitjax.data.transforms.pipeline import Pipeline


@dataclass(frozen=True)
class PairRows(Rows):
    """Transformed pairs of one split.

    Attributes:
        split: where pairs come from.
        pipeline: what is done to them.
        seed: of the randomness in the pipeline.
        shape: (height, width, channels) of the images in a batch.
        dtype: that they have.
        skip_corrupt: whether a corrupt image becomes a masked black one instead of an error.
        fill: whether smaller pairs are filled up to ``shape`` with mirrored pixels that count
            nowhere, as in evaluation.
        weights: the weight maps that rows carry, or None.
    """

    split: PairSplit
    pipeline: Pipeline
    seed: int
    shape: tuple[int, int, int]
    dtype: np.dtype
    skip_corrupt: bool
    fill: bool
    weights: WeightMaps | None

    def blank(self) -> dict[str, np.ndarray]:
        """A black image none of whose pixels counts."""
        rows = {
            "image": np.zeros(self.shape, self.dtype),
            "label": np.full(self.shape[:2], IGNORE, np.int32),
        }
        if self.weights is not None:
            rows["weight"] = np.zeros(self.shape[:2], np.float32)
        return rows

    def row(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """The transformed image at ``index``, its label, and its weight if rows carry it."""
        with skippable(self.skip_corrupt):
            pair = self.split.read(index)
        if self.weights is not None:
            pair = replace(pair, weight=self.weights.of(index, pair.label, pair.instances))
        # Objects have told what they are good for; without them there is less to move.
        pair = self.pipeline(replace(pair, instances=None), rng)
        height, width = self.shape[:2]
        if self.fill and pair.label.shape[0] <= height and pair.label.shape[1] <= width:
            pair = padded(pair, (height, width))
        if pair.image.shape != self.shape or pair.image.dtype != self.dtype:
            raise DataError(
                f"{self.split.name(index)}: is {pair.image.dtype} of shape {pair.image.shape} after"
                f" the transforms {self.pipeline.text!r}, and others are {self.dtype} of shape"
                f" {self.shape}; images of one batch have one size: begin train_transforms with"
                f" crop({min(height, width)}), or with resize(({height}, {width}))"
            )
        rows = {"image": pair.image, "label": pair.label}
        return rows if pair.weight is None else {**rows, "weight": pair.weight}


@dataclass(frozen=True)
class _BlankSplit:
    """Black pairs of one size."""

    count: int
    shape: tuple[int, int, int]
    dtype: str
    title: str

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Pair:
        return Pair(np.zeros(self.shape, self.dtype), np.zeros(self.shape[:2], np.int32))

    def size(self, index: int) -> Size:
        return self.shape[:2]

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"


class SegmentationData(Batched):
    """Batches of one source of images with masks: what the trainer knows of such data.

    Training batches are dicts of ``image`` (b, height, width, channels), uint8 or float32,
    ``label`` (b, height, width) int32, -1 where a pixel counts nowhere, ``mask`` (b,) bool, and
    with a ``weight_map`` also ``weight`` (b, height, width) float32. Those of evaluation have no
    weight and hold images whole: where sizes differ, smaller ones are filled up below and to the
    right, to the largest height and width of the split, with mirrored pixels whose label is -1.

    Attributes:
        image_shape: (height, width, channels) of the images in a batch of evaluation, filled up;
            `example` and `read_image` give images of their own size.
    """

    target = "mask"
    source: PairSource

    def __init__(
        self,
        source: PairSource,
        batch_size: int,
        eval_batch_size: int | None = None,
        train_transforms: str = "",
        eval_transforms: str = "",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        workers: int = 0,
        on_corrupt: str = "error",
        weight_map: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        """Checks everything and reads one image.

        Args:
            source: where pairs come from.
            batch_size: of the global training batch, over all hosts.
            eval_batch_size: of the global evaluation batch; None means ``batch_size``.
            train_transforms: a pipeline, see `vitjax.data.segmentation.parse_pairs`.
            eval_transforms: the same for evaluation, of transforms that are not random.
            mean: as of `vitjax.data.Data`.
            std: as of `vitjax.data.Data`.
            workers: as of `vitjax.data.Data`.
            on_corrupt: as of `vitjax.data.Data`.
            weight_map: the keywords of `vitjax.data.segmentation.weights.WeightSettings`; None
                for no weights.
            seed: of order and augmentation.

        Raises:
            ConfigError: a value makes no sense.
            DataError: the images and a value do not go together.
        """
        names = source.class_names
        self._weight_settings = None if weight_map is None else WeightSettings.of(weight_map, names)
        self._weight_maps: WeightMaps | None = None
        self._largest: dict[str, Size] = {}
        super().__init__(
            source, batch_size, eval_batch_size, train_transforms, eval_transforms, mean, std,
            workers, on_corrupt, seed,
        )  # fmt: skip

    @property
    def class_values(self) -> tuple[int, ...]:
        """Of each class, the number that stands for it in the source's masks."""
        return self.source.values or tuple(range(self.num_classes))

    def class_pixels(self, split: str) -> np.ndarray:
        """How many pixels each class has in all masks of ``split``: int64 of shape (classes,).

        Reads all of them, in threads.
        """
        pairs = self.source.split(split)

        def counted(index: int) -> np.ndarray:
            try:
                with skippable(self._skip_corrupt):
                    label = pairs.read(index).label
            except CorruptImage:
                return np.zeros(self.num_classes, np.int64)
            return np.bincount(label[label != IGNORE], minlength=self.num_classes)

        with ThreadPoolExecutor(cores()) as threads:
            return np.stack(list(threads.map(counted, range(len(pairs))))).sum(axis=0)

    def describe(self) -> dict[str, Any]:
        """What `recall` needs, as JSON values: names and values of classes, examples, raw sizes."""
        pair, _ = self._first("train")
        sizes = {name: list(self._size(name)) for name in self.splits}
        return {
            "class_names": list(self.class_names),
            "class_values": list(self.class_values),
            "examples": {name: self.num_examples(name) for name in self.splits},
            "image": {"channels": pair.image.shape[-1], "dtype": pair.image.dtype.name},
            "sizes": sizes,
        }

    @classmethod
    def blank(cls, description: Mapping[str, Any], **keywords: Any) -> SegmentationData:
        """Data of the same sizes and names as those described, all images black.

        Args:
            description: what `describe` gave.
            **keywords: as `SegmentationData` takes them.
        """
        image = description["image"]
        splits = {
            name: _BlankSplit(
                count,
                (*description["sizes"][name], image["channels"]),
                image["dtype"],
                f"blank {name}",
            )
            for name, count in description["examples"].items()
        }
        names = tuple(description["class_names"])
        values = tuple(description["class_values"])
        return cls(PairSource(splits, names, image["channels"], values), **keywords)

    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """
        return self._evaluated(split, index).image

    def truth(self, split: str, index: int) -> np.ndarray:
        """The classes of what `example` gives, -1 where a pixel counts nowhere: (height, width).

        Raises:
            CorruptImage: it cannot be read.
        """
        return self._evaluated(split, index).label

    def read_image(self, path: str | os.PathLike[str]) -> np.ndarray:
        """An image file of any size made ready as an evaluated example is.

        Returns:
            (height, width, channels), uint8 or float32.

        Raises:
            DataError: it cannot be read.
        """
        return self.prepared(self.read_picture(path))

    def pages(self, path: str | os.PathLike[str]) -> int:
        """How many images a file has.

        Raises:
            DataError: it cannot be read.
        """
        return measure(path)[0]

    def read_picture(self, path: str | os.PathLike[str], page: int = 0) -> np.ndarray:
        """A page of an image file as it is: (height, width, channels), uint8 or float32.

        Raises:
            DataError: it cannot be read.
        """
        return read_picture(path, self.source.channels, page)

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        """What `read_picture` gave as an evaluated example is."""
        unknown = np.broadcast_to(np.int32(IGNORE), picture.shape[:2])
        return self._eval(Pair(picture, unknown), np.random.default_rng(0)).image

    def restored(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """``maps`` of what `prepared` gave, at the size of the picture that it was given.

        Args:
            maps: floats, (height, width, channels).
            size: (height, width) of the picture.
        """
        return undone(self._eval, maps, size)

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: shapes and dtypes as a step or an evaluation is fed."""
        shape, dtype = self._train_shape
        if evaluated:
            shape, dtype = self.image_shape, self._eval_dtype
        batch: Batch = {
            "image": np.zeros((1, *shape), dtype),
            "label": np.zeros((1, *shape[:2]), np.int32),
            "mask": np.ones(1, bool),
        }
        if self._weight_settings is not None and not evaluated:
            batch["weight"] = np.ones((1, *shape[:2]), np.float32)
        return batch

    def _train_rows(self) -> PairRows:
        """The rows of training, with weight maps if the config asks for them."""
        rows: PairRows = super()._train_rows()
        settings = self._weight_settings
        if settings is None:
            return rows
        if self._weight_maps is None:
            balance = np.ones(self.num_classes, np.float32)
            if settings.balance:
                balance = class_weights(self.class_pixels("train"))
            self._weight_maps = WeightMaps(settings, balance)
        return replace(rows, weights=self._weight_maps)

    def _evaluated(self, split: str, index: int) -> Pair:
        return self._eval(self.source.split(split).read(index), np.random.default_rng(0))

    def _parse(self, text: str, where: str, evaluated: bool) -> Pipeline:
        return parse_pairs(text, where, evaluated)

    def _examples(self, name: str, pipeline: Pipeline) -> PairRows:
        split = self.source.split(name)
        pair, index = self._first(name)
        image = pipeline(pair, np.random.default_rng(0)).image
        evaluated = pipeline is self._eval
        size = image.shape[:2]
        if evaluated:
            if name not in self._largest:
                self._largest[name] = self._largest_of(name)
            size = self._largest[name]
        if image.dtype not in (np.uint8, np.float32):
            raise DataError(f"{split.name(index)}: is {image.dtype}; images are uint8 or float32")
        shape = (size[0], size[1], image.shape[-1])
        return PairRows(
            split, pipeline, self.seed, shape, image.dtype, self._skip_corrupt, evaluated, None
        )

    def _first(self, name: str) -> tuple[Pair, int]:
        """The first pair of a split that can be read, and its index."""
        split = self.source.split(name)
        for index in range(len(split)):
            try:
                with skippable(self._skip_corrupt):
                    return split.read(index), index
            except CorruptImage as error:
                last = error
        raise DataError(
            f"all images of split {name!r} are corrupt; the last: {last}"
            if len(split)
            else f"split {name!r} has no examples"
        )

    def _largest_of(self, name: str) -> Size:
        """The greatest height and width in a split, as evaluated."""
        fixed = size_after(self._eval, None)
        if fixed is not None:
            return fixed
        sizes = [size_after(self._eval, size) for size in self._sizes(name)]
        return tuple(np.max([size for size in sizes if size], axis=0).tolist())

    def _size(self, name: str) -> Size:
        """The greatest raw height and width in a split; of ``train``, the first pair's size."""
        if name == "train":
            return self._first(name)[0].label.shape
        return tuple(np.max(self._sizes(name), axis=0).tolist())

    def _sizes(self, name: str) -> list[Size]:
        """The raw sizes of all pairs of a split, without corrupt ones if these are skipped."""
        split = self.source.split(name)
        sizes = []
        for index in range(len(split)):
            try:
                with skippable(self._skip_corrupt):
                    sizes.append(split.size(index))
            except CorruptImage:
                continue
        return sizes
