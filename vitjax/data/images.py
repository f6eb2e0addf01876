"""Batches of images with a class, with numbers or with boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from vitjax.core.registry import Registry
from vitjax.core.validation import call, check_keywords
from vitjax.data.any_image import AnyImage, name_of, read_any_image
from vitjax.data.blank import BlankSplit
from vitjax.data.dataset import ImageDataset, LabelledDataset
from vitjax.data.errors import ImageShapeError
from vitjax.data.examples import (
    Arrays,
    BoxArrays,
    ClassArrays,
    ExampleBatches,
    Examples,
    NumberArrays,
    Rows,
    check_image,
    first_readable,
    images_of,
    read,
)
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.iterator import Batch
from vitjax.data.loader import Loader
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.sample import Sample
from vitjax.data.samplers.base import SAMPLERS, Sampler, Training
from vitjax.data.samplers.order import InOrder
from vitjax.data.settings import BoxSettings, ExampleSettings
from vitjax.data.share import WHERE, Share
from vitjax.data.sources.base import LabelledSplit, Source, Stored
from vitjax.data.transforms.pipeline import Pipeline, parse


class ImageData(Loader, ImageDataset):
    """Batches of examples of one source.

    Training batches have the examples that the sampler chooses. The order, `skipped` and the rest
    are as of `vitjax.data.dataset.Dataset`; ``mask`` is False where a corrupt image was skipped.

    Attributes:
        source: the splits.
        settings: the values of the keys.
        image_shape: (height, width, channels) of an evaluated image.
    """

    image_shape: tuple[int, int, int]
    settings_class: ClassVar[type[ExampleSettings]] = ExampleSettings
    described: ClassVar[tuple[str, ...]] = (
        *("class_names", "examples"),
        *("image.shape", "image.dtype"),
    )

    def __init__(self, source: Source[Any], seed: int = 0, **keywords: Any):
        """Checks everything and reads one image per pipeline.

        Args:
            source: where samples come from.
            seed: of order and augmentation.
            **keywords: the fields of `settings_class`.

        Raises:
            ConfigError: a value cannot be used.
            DataError: the images and a value do not go together.
        """
        settings = call(self.settings_class, keywords, where=WHERE)
        super().__init__(settings, seed, settings.workers)
        self.settings = settings
        self.max_pixels = settings.max_pixels
        self.source = source
        self._skip_corrupt = settings.on_corrupt == "skip"
        self._probed: dict[tuple[str, bool], Examples] = {}  # by split, and whether it is evaluated
        self._train_pipeline, self._eval_pipeline = self._pipelines(settings)
        self.class_names = source.class_names
        self.notes = source.notes
        self.num_classes = self.num_train_classes = len(source.class_names)
        self.splits = tuple(source.splits)
        first = next((s for s in ("val", "test", "train") if s in source.splits), None)
        self._first_evaluated = first or next(iter(source.splits))
        evaluated = self._examples(self._first_evaluated, self._eval_pipeline)
        self.image_shape = evaluated.shape
        # Floats of the data may have any values; where it has bytes, 1 is white.
        self._any_range = bool(np.issubdtype(evaluated.dtype, np.floating))
        # Without a split "train" a run can be evaluated; see `vitjax.training.checks.trainable`.
        self._trained = "train" if "train" in source.splits else self._first_evaluated
        self._examples(self._trained, self._train_pipeline)
        self._normalization = Normalization.of(settings.mean, settings.std, self.image_shape[-1])
        default = "weighted" if self._trained in source.example_weights else "shuffled"
        self._sampler = self._make_sampler(settings.sampler or {"name": default})

    @classmethod
    def check_settings(cls, settings: ExampleSettings) -> None:
        """As of `Loader`: the pipelines, and the sampler."""
        cls._pipelines(settings)
        if settings.sampler is not None:
            where = f"{WHERE}.sampler"
            constructor, keys = SAMPLERS.from_section(settings.sampler, where)
            check_keywords(constructor, keys, where=where, given=("training",))

    @property
    def steps_per_epoch(self) -> float:  # type: ignore[override]
        """Training batches in which every example is seen once; seldom an integer."""
        return self.num_examples(self._trained) / self.batch_size

    def num_examples(self, split: str) -> int:
        """The number of examples of ``split``."""
        return len(self.source.split(split))

    def normalize(self, inputs: Any) -> Any:
        """Images as a model takes them: (x - mean) / std, uint8 ones scaled to [0, 1] before.

        For use inside ``jit``, so that batches travel to the device as bytes.

        Args:
            inputs: uint8 or floats, (..., channels).

        Returns:
            float32 of the same shape.
        """
        return self._normalization(inputs)

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank example: the shapes and dtypes of training, or of evaluation."""
        split = self._first_evaluated if evaluated else self._trained
        rows = self._eval_rows(split) if evaluated else self._train_rows()
        batch = {
            key: np.zeros((1, *array.shape), array.dtype) for key, array in rows.blank().items()
        }
        return {**batch, "mask": np.ones(1, bool)}

    @property
    def preparation(self) -> Preparation:
        """How an image file becomes an evaluated input."""
        shape = self.image_shape
        return Preparation(self._eval_pipeline, self._normalization, shape, shape[-1])

    @property
    def augments(self) -> bool:
        """Whether training sees other images than evaluation, or other ones at each pass."""
        train, evaluation = self._train_pipeline, self._eval_pipeline
        return train.random or train.text != evaluation.text

    def identity(self) -> dict[str, Any]:
        """What the examples of ``train`` and ``val`` are."""
        return self.source.identity()

    def describe(self) -> dict[str, Any]:
        """What `recall` needs, as JSON values: class names, examples, an image's raw size."""
        sample = first_readable(
            self.source.split(self._trained), self._trained, self._skip_corrupt
        )[0]
        images = {
            name: {"shape": list(image.shape), "dtype": image.dtype.name}
            for name, image in images_of(sample).items()
        }
        return {
            "class_names": list(self.class_names),
            "examples": {name: len(held) for name, held in self.source.splits.items()},
            **images,
        }

    @classmethod
    def blank(cls, description: Mapping[str, Any], seed: int = 0, **keywords: Any) -> Self:
        """Data of the same sizes and names as those described, all images black.

        Args:
            description: the result of `describe`.
            seed: as in the constructor.
            **keywords: as in the constructor.
        """
        sample = cls._blank_sample(description)
        splits = {
            name: BlankSplit(sample, count, f"blank {name}")
            for name, count in description["examples"].items()
        }
        source = Source(splits, tuple(description["class_names"]))
        return cls(source, seed, **{**keywords, "sampler": None})  # which may need true labels

    @classmethod
    def _blank_sample(cls, description: Mapping[str, Any]) -> Sample:
        blank = {
            name: np.zeros(description[name]["shape"], description[name]["dtype"])
            for name in ("image", "second_image")
            if name in description
        }
        return Sample(blank["image"], 0, second_image=blank.get("second_image"))

    def read_image(self, image: AnyImage) -> np.ndarray:
        """An image made ready as an evaluated example is: (height, width, channels).

        Raises:
            DataError: it cannot be read, or the transforms do not bring it to `image_shape`.
        """
        return read_evaluated(
            image,
            self._eval_pipeline,
            self.image_shape,
            self.max_pixels,
            any_range=self._any_range,
        )

    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """
        return self._evaluated(split, index).image

    def name(self, split: str, index: int) -> str:
        """What the source calls the example at ``index`` of ``split``."""
        return self.source.split(split).name(index)

    def stored(self, split: str) -> Stored | None:
        """The examples of ``split`` as they are stored; None if the source cannot compare them."""
        held = self.source.split(split)
        return held if isinstance(held, Stored) else None

    def _evaluated(self, split: str, index: int) -> Sample:
        sample = read(self.source.split(split), index)
        return self._eval_pipeline(sample, np.random.default_rng(0))

    def _make_sampler(self, section: Mapping[str, Any]) -> Sampler:
        where = f"{WHERE}.sampler"
        constructor, keys = SAMPLERS.from_section(section, where)
        training = Training(
            self.source.split(self._trained),
            self.target,
            self.class_names,
            self.batch_size,
            self.seed,
            self.source.example_weights.get(self._trained),
        )
        sampler: Sampler = call(constructor, keys, where=where, training=training)
        return sampler

    @abstractmethod
    def _arrays(self) -> Arrays:
        """What a row holds."""

    @classmethod
    def _pipelines(cls, settings: ExampleSettings) -> tuple[Pipeline, Pipeline]:
        """The transforms of training and of evaluation."""
        return (
            cls._parse(settings.train_transforms or "", f"{WHERE}.train_transforms", False),
            cls._parse(settings.eval_transforms, f"{WHERE}.eval_transforms", True),
        )

    @classmethod
    def _parse(cls, text: str, where: str, evaluated: bool) -> Pipeline:
        return parse(text, where)

    def _train(self, share: Share) -> ExampleBatches:
        self.source.split("train")  # which raises an error if it does not exist
        return ExampleBatches(self._train_rows(), self._sampler, share)

    def _evaluate(self, split: str, share: Share) -> ExampleBatches:
        return ExampleBatches(self._eval_rows(split), InOrder(), share)

    def _train_rows(self) -> Rows:
        return self._examples(self._trained, self._train_pipeline)

    def _eval_rows(self, split: str) -> Rows:
        return self._examples(split, self._eval_pipeline)

    def _examples(self, name: str, pipeline: Pipeline) -> Examples:
        """The rows of split ``name`` after ``pipeline``, like the first that can be read."""
        key = name, pipeline is self._eval_pipeline
        if key not in self._probed:
            self._probed[key] = self._probe(name, pipeline)
        return self._probed[key]

    def _probe(self, name: str, pipeline: Pipeline) -> Examples:
        split = self.source.split(name)
        sample, index = first_readable(split, name, self._skip_corrupt)
        sample = pipeline(sample, np.random.default_rng(0))
        check_image(sample.image, split.name(index))
        arrays = self._arrays()
        empty = arrays.empty(sample, split.name(index))
        return Examples(split, pipeline, self.seed, arrays, empty, self._skip_corrupt)


# The class for the data of each target. Fact: ``label``, the label of an example in words.
KINDS: Registry[type[Any]] = Registry("kind of data")


@KINDS.register("class", label="one class per image")
class Data(ImageData, LabelledDataset):
    """Batches of images with one class each: ``image``, ``label`` (b,) int32 and ``mask`` (b,)."""

    source: Source[LabelledSplit]

    def labels(self, split: str) -> np.ndarray:
        """The label of each example of ``split``: int32 of shape (examples,)."""
        return self.source.split(split).labels

    def _arrays(self) -> Arrays:
        return ClassArrays()


@KINDS.register("number", label="numbers")
class NumberData(Data):
    """Batches of images with numbers to predict: ``label`` is float32 (b,) or (b, numbers)."""

    target = "number"
    described = (*Data.described, "label.shape")

    def labels(self, split: str) -> np.ndarray:
        """The label of each example of ``split``: float32 of shape (examples,) or (examples, n)."""
        return super().labels(split)

    def describe(self) -> dict[str, Any]:
        """As of `Data`, with the shape of a label."""
        shape = self.labels("train").shape[1:]
        return {**super().describe(), "label": {"shape": list(shape)}}

    @classmethod
    def _blank_sample(cls, description: Mapping[str, Any]) -> Sample:
        label = np.zeros(description["label"]["shape"], np.float32)
        return super()._blank_sample(description).replace(label=label)

    def _arrays(self) -> Arrays:
        return NumberArrays()


@KINDS.register("none", label="no labels")
class UnlabelledData(ImageData):
    """Batches of images without labels: ``image`` and ``mask`` (b,)."""

    target = "none"

    def _arrays(self) -> Arrays:
        return Arrays()


@KINDS.register("boxes", label="objects in boxes")
class BoxData(ImageData):
    """Batches of images with objects in boxes, padded to one number of boxes.

    They hold ``image``, ``boxes`` (b, max_boxes, 4) float32: x1, y1, x2, y2 in pixels of the
    transformed image, ``box_labels`` (b, max_boxes) int32, ``box_mask`` (b, max_boxes) bool, False
    for padding, and ``mask`` (b,).
    """

    target = "boxes"
    settings_class = BoxSettings
    settings: BoxSettings

    @classmethod
    def _blank_sample(cls, description: Mapping[str, Any]) -> Sample:
        boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        return super()._blank_sample(description).replace(boxes=boxes, box_labels=labels)

    def _arrays(self) -> Arrays:
        return BoxArrays(self.settings.max_boxes)


def read_evaluated(
    image: AnyImage,
    pipeline: Pipeline,
    shape: tuple[int, int, int],
    max_pixels: int = MAX_PIXELS,
    *,
    any_range: bool = False,
    fitting: Pipeline | None = None,
) -> np.ndarray:
    """An image after ``pipeline``, of ``shape``.

    Args:
        image: as of `read_any_image`, as are ``max_pixels`` and ``any_range``.
        pipeline: the transforms of evaluation.
        shape: (height, width, channels) that the model takes.
        max_pixels: of a file.
        any_range: of floats.
        fitting: what a result of another shape passes through; None for nothing.

    Raises:
        DataError: it cannot be read.
        ImageShapeError: the result has another shape.
    """
    pixels = read_any_image(image, shape[-1], max_pixels=max_pixels, any_range=any_range)
    result = pipeline.fixed(pixels)
    if result.shape != shape and fitting is not None:
        result = fitting.fixed(result)
    if result.shape != shape:
        after = f" after eval_transforms {pipeline.text!r}" if pipeline.steps else ""
        transforms = " | ".join(filter(None, [pipeline.text.strip(), fitting_text(shape)]))
        raise ImageShapeError(
            f"{name_of(image)}: is of shape {result.shape}{after}, and those of the"
            f" run's data of {shape}. --{WHERE}.eval_transforms={transforms!r} brings images to"
            " that size"
        )
    return result


def fitting_text(shape: tuple[int, int, int]) -> str:
    """Transforms that bring an image of any size to the height and width of ``shape``."""
    height, width, _ = shape
    if height == width:
        return f"resize({height}) | center_crop({height})"
    return f"resize(({height}, {width}))"
