"""Episodes of labelled images, from any source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.core.errors import ConfigError
from vitjax.core.validation import call
from vitjax.data.batching import Examples, probe
from vitjax.data.checks import WHERE as DATA
from vitjax.data.checks import skips_corrupt
from vitjax.data.episodes import class_splits
from vitjax.data.episodes.batching import ImageBatches, IndexBatches, Share
from vitjax.data.episodes.loader import EpisodeData
from vitjax.data.episodes.pool import Pool, decode, listed
from vitjax.data.episodes.sampling import TURNS, Sampler, Stream
from vitjax.data.episodes.settings import WHERE, ImageSettings
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.files import read_image
from vitjax.data.iterator import Batch, Batches
from vitjax.data.normalization import Normalization
from vitjax.data.sources.base import ArraySplit, Source
from vitjax.data.transforms.pipeline import Pipeline, parse

# What in_memory="auto" keeps at most: a gibibyte fits on every device.
MOST_KEPT = 2**30


class ImageEpisodes(EpisodeData):
    """Few-shot classification of the images of a source; see `EpisodeData`."""

    settings: ImageSettings
    image_shape: tuple[int, int, int]

    def __init__(
        self,
        source: Source,
        episodes: Mapping[str, Any],
        batch_size: int,
        eval_batch_size: int | None = None,
        train_transforms: str | None = None,
        eval_transforms: str = "",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        workers: int = 0,
        on_corrupt: str = "error",
        seed: int = 0,
    ):
        """Checks everything, and decodes all images if they are to be kept in memory.

        Args:
            source: where images come from.
            episodes: the keywords of `ImageSettings`.
            batch_size: episodes of the global training batch, over all hosts.
            eval_batch_size: of the global evaluation batch; None means ``batch_size``.
            train_transforms: a pipeline, see `vitjax.data.transforms.parse`; None means
                ``eval_transforms``.
            eval_transforms: the same for evaluation.
            mean: as `vitjax.data.Data` takes it.
            std: the same.
            workers: processes that read images ahead; 0 reads ahead in threads of this process.
                Images in memory need none.
            on_corrupt: "error", or "skip" to mask a corrupt image and show another of its episode
                in its place.
            seed: of the training episodes and their augmentation.

        Raises:
            ConfigError: a value makes no sense.
            DataError: the images and a value do not go together, or splits share classes.
        """
        settings = call(ImageSettings, episodes, where=WHERE)
        super().__init__(settings, batch_size, eval_batch_size, workers, seed)
        self._skip_corrupt = skips_corrupt(on_corrupt)
        self._eval = parse(eval_transforms, f"{DATA}.eval_transforms")
        self._train = self._eval
        if train_transforms is not None:
            self._train = parse(train_transforms, f"{DATA}.train_transforms")
        chosen = None
        if settings.class_split is not None:
            present = {int(c) for split in source.splits.values() for c in np.unique(split.labels)}
            chosen = class_splits.resolve(settings.class_split, source.class_names, present)
        self._pool = Pool.of(source, chosen)
        self.class_names = source.class_names
        self.splits = tuple(self._pool.ranges)
        self._check_sizes()
        self._turns = 1 if settings.rotations is None else TURNS
        self.num_classes = max(settings.size(split).ways[1] for split in self.splits)
        self.num_train_classes = len(self.classes("train"))
        self._evaluated = self._trained = self._examples(self._eval)
        if self._train.steps != self._eval.steps:
            self._trained = self._examples(self._train)
        self.image_shape = self._evaluated.shape
        self._normalization = Normalization.of(mean, std, self.image_shape[-1])
        self._valid: np.ndarray | None = None
        if self._keeps():
            kept = decode(self._evaluated, self._turns)
            self._note_skipped(kept.problems)
            self._valid = None if kept.valid.all() else kept.valid
            self.store = {"image": kept.images}

    def labels(self, split: str) -> np.ndarray:
        """The class of each image of ``split``, an index into `class_names`: int32, (images,)."""
        self._check_split(split)
        return self._pool.labels_of(split)

    def classes(self, split: str) -> tuple[str, ...]:
        """The names of the classes of ``split``, turned ones behind, as batches number them."""
        self._check_split(split)
        upright = [self.class_names[c] for c in self._pool.classes_of(split)]
        turned = [f"{name}, turned by {90 * t}°" for t in range(1, self._turns) for name in upright]
        return (*upright, *turned)

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each split its ``classes``, its ``images`` and the ``fewest`` images of a class.

        As the source has them: turned copies are not counted.
        """
        sizes = {split: self._pool.members(split)[1] for split in self.splits}
        return {
            split: {"classes": len(n), "images": int(n.sum()), "fewest": int(n.min())}
            for split, n in sizes.items()
        }

    def describe(self) -> dict[str, Any]:
        """What `vitjax.data.recall` needs, as JSON values: classes, an image's raw size."""
        image = _first_readable(self._pool)
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
            description: what `describe` gave.
            **keywords: as `ImageEpisodes` takes them.
        """
        splits = {}
        shape, dtype = description["image"]["shape"], description["image"]["dtype"]
        for name, sizes in description["classes"].items():
            labels = np.repeat([int(c) for c in sizes], list(sizes.values())).astype(np.int32)
            # One image seen from every index: no memory, however many there were.
            images = np.broadcast_to(np.zeros(shape, dtype), (len(labels), *shape))
            splits[name] = ArraySplit(images, labels, f"blank {name}")
        episodes = {**keywords.pop("episodes"), "class_split": None, "in_memory": False}
        source = Source(splits, tuple(description["class_names"]))
        return cls(source, episodes, **keywords)

    def example(self, split: str, index: int) -> np.ndarray:
        """The image at ``index`` of ``split`` as it is evaluated: (height, width, channels).

        Raises:
            CorruptImage: it cannot be read.
        """
        self._check_split(split)
        image, _ = self._pool.read(self._pool.ranges[split][0] + index)
        return self._eval(image, np.random.default_rng(0))

    def read_image(self, path: str | os.PathLike[str]) -> np.ndarray:
        """An image file made ready as an evaluated example is: (height, width, channels).

        Raises:
            DataError: it cannot be read, or the transforms do not bring it to `image_shape`.
        """
        return read_image(path, self._eval, self.image_shape)

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
        """Images as a model wants them: (x - mean) / std, uint8 ones scaled to [0, 1] before.

        For use inside ``jit``, so that batches travel to the device as bytes.

        Args:
            inputs: uint8 or floats, (..., channels).

        Returns:
            float32 of the same shape.
        """
        return self._normalization(inputs)

    def _batches(self, split: str, stream: Stream, share: Share, training: bool) -> Batches:
        sampler = Sampler(
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
        shape, dtype = probe(self._pool, pipeline, self._skip_corrupt)
        if self._turns > 1 and shape[0] != shape[1]:
            raise ConfigError(
                f"{WHERE}.rotations: images of {shape[0]}x{shape[1]} cannot be turned by 90"
                f" degrees and keep their shape; resize(({max(shape[:2])}, {max(shape[:2])})) in"
                " the transforms makes them square"
            )
        return Examples(self._pool, pipeline, self.seed, shape, dtype, self._skip_corrupt)

    def _keeps(self) -> bool:
        """Whether all images are kept in memory."""
        wanted = self.settings.in_memory
        reason = None
        if self._train.random or self._eval.random:
            reason = "the transforms are random, so an image is another one each time"
        elif self._train.steps != self._eval.steps:
            reason = "train_transforms and eval_transforms differ, and an image is kept once"
        if reason:
            if wanted is True:
                raise ConfigError(f"{WHERE}.in_memory is True, but {reason}; False reads them anew")
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
                    f" {split!r} has {kinds} classes"
                )
            few = np.flatnonzero(sizes < size.examples)
            if len(few):
                shown = [f"{self.class_names[classes[i]]} ({sizes[i]})" for i in few]
                raise ConfigError(
                    f"{name('shots', split)} = {self.settings.of('shots', split)!r} and"
                    f" {name('queries', split)} = {size.queries} take {size.examples} images of a"
                    f" class, but {len(few)} of {len(classes)} classes of split {split!r} have"
                    f" fewer: {listed(shown)}; no class has fewer than {sizes.min()}"
                )


def _first_readable(pool: Pool) -> np.ndarray:
    for index in range(len(pool)):
        try:
            return pool.read(index)[0]
        except CorruptImage:
            continue
    raise DataError("no image can be read")
