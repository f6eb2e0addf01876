"""From a batch's number to a batch of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.data.batching import ENDLESS, ExampleRng, Examples, report
from vitjax.data.episodes.sampling import Chosen, Sampler
from vitjax.data.errors import CorruptImage, DataError

Batch = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """This host's rows of every batch of a sequence of episodes.

    Attributes:
        batch_size: episodes of the global batch, over all hosts.
        rows: this host's part of each global batch.
        start: the number of the first batch.
        total: how many episodes there are; None for no end.
    """

    batch_size: int
    rows: range
    start: int = 0
    total: int | None = None

    def __len__(self) -> int:
        return ENDLESS if self.total is None else -(-self.total // self.batch_size)

    def episodes(self, index: int) -> tuple[int, int]:
        """The first episode of batch ``index``, and how many in a row from there to draw.

        There is always one at least, so that a share of nothing but padding has something to show.
        """
        first = (self.start + index) * self.batch_size + self.rows.start
        if self.total is None:
            return first, len(self.rows)
        if first >= self.total:
            return 0, 1
        return first, min(len(self.rows), self.total - first)

    def padded(self, index: int, batch: Batch) -> Batch:
        """The episodes drawn for batch ``index``, repeated to fill it, and which of them count."""
        first = (self.start + index) * self.batch_size + self.rows.start
        size = len(self.rows)
        real = size if self.total is None else min(max(self.total - first, 0), size)
        if real < size:
            rows = np.arange(size) % max(real, 1)
            batch = _map(batch, lambda array: array[rows])
        return {**batch, "mask": np.arange(size) < real}


def _map(batch: Batch, function: Any) -> Batch:
    return {
        key: _map(value, function) if isinstance(value, dict) else function(value)
        for key, value in batch.items()
    }


@dataclass(frozen=True)
class IndexBatches:
    """Batches of episodes of images in memory: they say which images, and hold none.

    Attributes:
        sampler: what the episodes are.
        share: this host's part of them.
        valid: of all upright images, False for corrupt ones; None where all are well.
    """

    sampler: Sampler
    share: Share
    valid: np.ndarray | None

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        parts = self.sampler.draw(*self.share.episodes(index))
        made = {}
        for name, chosen in zip(("support", "query"), parts, strict=True):
            images, mask = chosen.index, chosen.mask
            if self.valid is not None:
                valid = self.valid[images % self.sampler.images]
                mask = mask & valid
                images = np.take_along_axis(images, stand_ins(valid), axis=1)
            made[name] = _part("index", images, chosen, mask)
        return self.share.padded(index, made)


@dataclass(frozen=True)
class ImageBatches:
    """Batches of episodes whose images are read and transformed for each.

    Attributes:
        sampler: what the episodes are.
        share: this host's part of them.
        examples: the images.
    """

    sampler: Sampler
    share: Share
    examples: Examples

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        first, count = self.share.episodes(index)
        stream = self.sampler.stream
        rng = ExampleRng(stream.seed, *stream.key().tolist())
        skipped: dict[str, str] = {}
        made, offset = {}, 0
        parts = self.sampler.draw(first, count)
        places = sum(chosen.index.shape[1] for chosen in parts)
        try:
            for name, chosen in zip(("support", "query"), parts, strict=True):
                positions = (first + np.arange(count)) * places + offset
                made[name] = self._read(chosen, positions, rng, skipped)
                offset += chosen.index.shape[1]
        except DataError as error:
            return report({"error": str(error)})
        batch = self.share.padded(index, made)
        return {**batch, **report({"skipped": skipped})} if skipped else batch

    def _read(
        self, chosen: Chosen, positions: np.ndarray, rng: ExampleRng, skipped: dict[str, str]
    ) -> Batch:
        """The images of ``chosen``; the augmentation of each is seeded by its position.

        Args:
            chosen: which images.
            positions: of the first image of each episode.
            rng: gives each position its randomness.
            skipped: gets the corrupt ones and what is wrong with them.
        """
        images = np.zeros((*chosen.index.shape, *self.examples.shape), self.examples.dtype)
        valid = np.ones(chosen.index.shape, bool)
        for episode, row in enumerate(chosen.index):
            place_of: dict[int, int] = {}
            for place, number in enumerate(row.tolist()):
                if number in place_of:  # it fills a place that is left
                    images[episode, place] = images[episode, place_of[number]]
                    valid[episode, place] = valid[episode, place_of[number]]
                    continue
                place_of[number] = place
                turn, upright = divmod(number, self.sampler.images)
                try:
                    at = rng.at(int(positions[episode]) + place)
                    image, _ = self.examples.read(upright, at)
                except CorruptImage as error:
                    skipped[self.examples.split.name(upright)] = str(error)
                    valid[episode, place] = False
                else:
                    images[episode, place] = np.rot90(image, turn)
        if not valid.all():
            images = images[np.arange(len(images))[:, None], stand_ins(valid)]
        return _part("input", images, chosen, chosen.mask & valid)


def _part(key: str, value: np.ndarray, chosen: Chosen, mask: np.ndarray) -> Batch:
    return {key: value, "target": chosen.target, "class": chosen.classes, "mask": mask}


def stand_ins(valid: np.ndarray) -> np.ndarray:
    """For each place the nearest valid one at or before it, going round: (episodes, places).

    Where an episode has no valid place, each stands for itself.
    """
    places = np.arange(valid.shape[1])
    before = np.maximum.accumulate(np.where(valid, places, -1), axis=1)
    before = np.where(before < 0, before[:, -1:], before)
    return np.where(before < 0, places, before)


def look_up(store: dict[str, Any] | None, batch: Batch) -> Batch:
    """``batch`` with the images where it says which: {"index": ...} becomes {"input": ...}.

    Pure JAX, for use inside ``jit`` with the store on the device. A batch that has its images comes
    back as it is.

    Args:
        store: `EpisodeData.store`: {"image": (images, height, width, channels)}, or None.
        batch: episodes; ``index`` is (tasks, places).
    """
    import jax.numpy as jnp  # not at the top: threads and workers that make batches do without

    def with_images(part: Batch) -> Batch:
        if store is None or "index" not in part:
            return part
        rest = {key: value for key, value in part.items() if key != "index"}
        return {"input": jnp.take(store["image"], part["index"], axis=0, mode="clip"), **rest}

    return {**batch, "support": with_images(batch["support"]), "query": with_images(batch["query"])}
