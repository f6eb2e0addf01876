"""Episodes of labelled images, from any source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.text import counted
from vitjax.core.validation import call
from vitjax.data.any_image import AnyImage
from vitjax.data.episodes import class_splits
from vitjax.data.episodes.batching import ImageBatches, IndexBatches
from vitjax.data.episodes.loader import EpisodeData
from vitjax.data.episodes.pool import Pool, decode, listed
from vitjax.data.episodes.settings import WHERE, ImageEpisodeSettings, ImageSettings
from vitjax.data.errors import DataError
from vitjax.data.examples import ClassArrays, Examples, check_image, first_readable, read
from vitjax.data.identity import LEARNED
from vitjax.data.images import fitting_text, read_evaluated
from vitjax.data.iterator import Batch, Batches
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.samplers.episodes import TURNS, EpisodeSampler
from vitjax.data.samplers.streams import Stream
from vitjax.data.share import WHERE as DATA
from vitjax.data.share import Share
from vitjax.data.sources.base import ArraySplit, LabelledSplit, Source, Stored
from vitjax.data.transforms.pipeline import Pipeline, parse

# The most bytes that in_memory="auto" keeps: a gibibyte fits on every device.
MOST_KEPT = 2**30


class ImageEpisodes(EpisodeData):
    """Few-shot classification of the images of a source; see `EpisodeData`."""

    described = ("class_names", "classes", "image.shape", "image.dtype")
    settings_class: ClassVar[type[ImageSettings]] = ImageSettings
    settings: ImageEpisodeSettings
    image_shape: tuple[int, int, int]

    def __init__(self, source: Source[LabelledSplit], seed: int = 0, **keywords: Any):
        """Checks everything, and decodes all images if they are to be kept in memory.

        Args:
            source: where images come from.
            seed: of the training episodes and their augmentation.
            **keywords: the fields of `ImageSettings`. With ``on_corrupt="skip"``, a corrupt image
                is masked, and another image of its episode stands in its place.

        Raises:
            ConfigError: a value cannot be used.
            DataError: the images and a value do not go together, or splits share classes.
        """
        section = call(ImageSettings, keywords, where=DATA)
        settings = section.episodes
        super().__init__(section, settings, seed, section.workers)
        self.max_pixels = section.max_pixels
        self._skip_corrupt = section.on_corrupt == "skip"
        self._train_pipeline, self._eval = self._pipelines(section)
        chosen = None
        self.notes = source.notes
        if settings.class_split is not None:
            present = {int(c) for split in source.splits.values() for c in np.unique(split.labels)}
            chosen = class_splits.resolve(settings.class_split, source.class_names, present)
            class_splits.check_apart(chosen, source)
            again = "all these images are split again by class: config.data.episodes.class_split"
            self.notes = (*source.notes, again) if source.notes else ()
        self._pool = Pool.of(source, chosen)
        self._source = source
        # A class split deals the images of all of the source's splits out again.
        self._learned = LEARNED if chosen is None else tuple(source.splits)
        self.class_names = source.class_names
        self.splits = tuple(self._pool.ranges)
        self._check_sizes()
        self._turns = 1 if settings.rotations is None else TURNS
        self.num_classes = max(settings.size(split).ways[1] for split in self.splits)
        self.num_train_classes = len(self.classes("train"))
        self._evaluated = self._trained = self._examples(self._eval)
        if self._train_pipeline.steps != self._eval.steps:
            self._trained = self._examples(self._train_pipeline)
        self.image_shape = self._evaluated.shape
        if not self._eval.steps:
            self.fitting = parse(fitting_text(self.image_shape))
        self._normalization = Normalization.of(section.mean, section.std, self.image_shape[-1])
        self._valid: np.ndarray | None = None
        if self._keeps():
            kept = decode(self._evaluated, self._turns)
            self._note_skipped(kept.problems)
            self._valid = None if kept.valid.all() else kept.valid
            self.store = {"image": kept.images}

    @classmethod
    def check_settings(cls, settings: ImageSettings) -> None:
        """As of `Loader`: the pipelines."""
        cls._pipelines(settings)

    @staticmethod
    def _pipelines(section: ImageSettings) -> tuple[Pipeline, Pipeline]:
        """The transforms of training and of evaluation."""
        evaluated = parse(section.eval_transforms, f"{DATA}.eval_transforms")
        if section.train_transforms is None:
            return evaluated, evaluated
        return parse(section.train_transforms, f"{DATA}.train_transforms"), evaluated

    @property
    def preparation(self) -> Preparation:
        """How an image file becomes an evaluated input."""
        shape = self.image_shape
        return Preparation(self._eval, self._normalization, shape, shape[-1])

    @property
    def augments(self) -> bool:
        """Whether training sees other images than evaluation, or other ones at each draw."""
        return self._trained is not self._evaluated or self._eval.random

    def labels(self, split: str) -> np.ndarray:
        """The class of each image of ``split``, an index into `class_names`: int32, (images,)."""
        self._check_split(split)
        return self._pool.labels_of(split)

    def classes(self, split: str) -> tuple[str, ...]:
        """The names of the classes of ``split``, then of turned ones, as batches number them."""
        self._check_split(split)
        upright = [self.class_names[c] for c in self._pool.classes_of(split)]
        turned = [f"{name}, turned by {90 * t}°" for t in range(1, self._turns) for name in upright]
        return (*upright, *turned)

    def counts(self) -> dict[str, dict[str, int]]:
        """For each split its ``classes``, ``images`` and the ``fewest`` images of a class.

        Turned copies are not counted.
        """
        sizes = {split: self._pool.members(split)[1] for split in self.splits}
        return {
            split: {"classes": len(n), "images": int(n.sum()), "fewest": int(n.min())}
            for split, n in sizes.items()
        }

    def identity(self) -> dict[str, Any]:
        """What the images that training and validation draw from are."""
        return self._source.identity(self._learned)

    def describe(self) -> dict[str, Any]:
        """What `vitjax.data.recall` needs, as JSON values: classes, an image's raw size."""
        image = first_readable(self._pool, "train", self._skip_corrupt)[0].image
        counts = {}
        for split in self.splits:
            classes, sizes = self._pool.classes_of(split), self._pool.members(split)[1]
            counts[split] = dict(zip(map(str, classes.tolist()), sizes.tolist(), strict=True))
        return {
            "class_names": list(self.class_names),
            "classes": counts,
            "image": {"shape": list(image.shape), "dtype": image.dtype.name},
        }

    @classmethod
    def blank(cls, description: Mapping[str, Any], **keywords: Any) -> ImageEpisodes:
        """Data of the same sizes and names as those described, all images black and none kept.

        Args:
            description: the result of `describe`.
            **keywords: as `ImageEpisodes` takes them.
        """
        splits = {}
        shape, dtype = description["image"]["shape"], description["image"]["dtype"]
        for name, sizes in description["classes"].items():
            labels = np.repeat(np.asarray(list(map(int, sizes)), np.int32), list(sizes.values()))
            # One image seen from every index: it takes no memory.
            images = np.broadcast_to(np.zeros(shape, dtype), (len(labels), *shape))
            splits[name] = ArraySplit(images, labels, f"blank {name}")
        episodes = {**keywords.pop("episodes"), "class_split": None, "in_memory": False}
        source = Source(splits, tuple(description["class_names"]))
        return cls(source, episodes=episodes, **keywords)

    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """
        self._check_split(split)
        return self._eval.fixed(read(self._pool, self._pool.ranges[split][0] + index).image)

    def stored(self, split: str) -> Stored | None:
        """The images of ``split`` as they are stored; None if the source cannot compare them."""
        self._check_split(split)
        return self._pool.stored(split)

    def read_image(self, image: AnyImage) -> np.ndarray:
        """An image made ready as an evaluated example is: (height, width, channels).

        Where the config has no ``eval_transforms``, an image of another size than `image_shape`
        passes through `fitting`.

        Raises:
            DataError: it cannot be read, or the transforms do not bring it to `image_shape`.
        """
        return read_evaluated(
            image,
            self._eval,
            self.image_shape,
            self.max_pixels,
            any_range=bool(np.issubdtype(self._evaluated.dtype, np.floating)),
            fitting=self.fitting,
        )

    def example_batch(self, evaluated: bool = False) -> Batch:
        """A batch of one blank episode: shapes and dtypes as a step or an evaluation is fed."""
        split = "train"
        if evaluated:
            split = next((s for s in self.splits if s != "train"), split)
        examples = self._evaluated if evaluated else self._trained
        size = self.settings.size(split)

        def part(count: int) -> Batch:
            labels = np.repeat(np.arange(size.ways[1], dtype=np.int32), count)[None]
            return {
                "input": np.zeros((*labels.shape, *examples.shape), examples.dtype),
                "target": labels,
                "class": labels,
                "mask": np.ones(labels.shape, bool),
            }

        support, query = part(size.shots[1]), part(size.queries)
        return {"support": support, "query": query, "mask": np.ones(1, bool)}

    def normalize(self, inputs: Any) -> Any:
        """Images as a model takes them: (x - mean) / std, uint8 ones scaled to [0, 1] before.

        For use inside ``jit``, so that batches travel to the device as bytes.

        Args:
            inputs: uint8 or floats, (..., channels).

        Returns:
            float32 of the same shape.
        """
        return self._normalization(inputs)

    def _batches(self, split: str, stream: Stream, share: Share, training: bool) -> Batches:
        sampler = EpisodeSampler(
            self.settings.size(split),
            *self._pool.members(split),
            len(self._pool),
            self.settings.rotations,
            stream,
        )
        if self.store is not None:
            return IndexBatches(sampler, share, self._valid)
        return ImageBatches(sampler, share, self._trained if training else self._evaluated)

    def _examples(self, pipeline: Pipeline) -> Examples:
        sample, index = first_readable(self._pool, "train", self._skip_corrupt)
        sample, name = pipeline(sample, np.random.default_rng(0)), self._pool.name(index)
        check_image(sample.image, name)
        shape = sample.image.shape
        if self._turns > 1 and shape[0] != shape[1]:
            raise ConfigError(
                f"{WHERE}.rotations: images of {shape[0]}x{shape[1]} cannot be turned by 90"
                f" degrees and keep their shape; resize(({max(shape[:2])}, {max(shape[:2])})) in"
                " the transforms makes them square"
            )
        arrays = ClassArrays()
        empty = arrays.empty(sample, name)
        return Examples(self._pool, pipeline, self.seed, arrays, empty, self._skip_corrupt)

    def _keeps(self) -> bool:
        """Whether all images are kept in memory."""
        wanted = self.settings.in_memory
        reason = None
        if self._train_pipeline.random or self._eval.random:
            reason = "the transforms are random, so an image differs each time"
        elif self._train_pipeline.steps != self._eval.steps:
            reason = "train_transforms and eval_transforms differ, and an image is kept once"
        if reason:
            if wanted is True:
                raise ConfigError(
                    f"{WHERE}.in_memory is True, but {reason}; False reads them for each episode"
                )
            return False
        size = np.dtype(self._evaluated.dtype).itemsize * int(np.prod(self.image_shape))
        small = size * len(self._pool) * self._turns < MOST_KEPT
        return small if wanted == "auto" else bool(wanted)

    def _check_sizes(self) -> None:
        if "train" not in self.splits:
            raise DataError(f"no split 'train' (there are: {', '.join(self.splits)})")
        for split in self.splits:
            classes, sizes = self._pool.classes_of(split), self._pool.members(split)[1]
            size, name = self.settings.size(split), self.settings.name
            kinds = len(classes) * (TURNS if self.settings.rotations == "classes" else 1)
            if size.ways[1] > kinds:
                raise ConfigError(
                    f"{name('ways', split)} is {self.settings.of('ways', split)!r}, but split"
                    f" {split!r} has {counted(kinds, 'class', 'es')}"
                )
            few = np.flatnonzero(sizes < size.examples)
            if len(few):
                shown = [f"{self.class_names[classes[i]]} ({sizes[i]})" for i in few]
                raise ConfigError(
                    f"{name('shots', split)} = {self.settings.of('shots', split)!r} and"
                    f" {name('queries', split)} = {size.queries} take {size.examples} images per"
                    f" class, but {len(few)} of {len(classes)} classes of split {split!r} have"
                    f" fewer: {listed(shown)}; no class has fewer than {sizes.min()}"
                )
