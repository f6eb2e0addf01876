"""From a batch's number to a batch of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.examples import ExampleRng, Examples
from vitjax.data.iterator import Batch, report
from vitjax.data.samplers.episodes import Chosen, EpisodeSampler
from vitjax.data.share import Share


def drawn(share: Share, index: int) -> tuple[int, int]:
    """The first episode of batch ``index``, and the number of them in a row from there to draw.

    It is at least one, so that a host with padding alone has something to repeat.
    """
    positions = share.positions(index)
    return (positions.start, len(positions)) if positions else (0, 1)


def filled(share: Share, index: int, batch: Batch) -> Batch:
    """The episodes drawn for batch ``index``, repeated to fill it, and which of them count."""
    size, real = len(share.rows), len(share.positions(index))
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
    """Batches of episodes of images in memory: they hold the numbers of images.

    Attributes:
        sampler: what the episodes are.
        share: this host's part of them.
        valid: of all upright images, False for corrupt ones; None if there are none.
    """

    sampler: EpisodeSampler
    share: Share
    valid: np.ndarray | None
    cheap: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        parts = self.sampler.draw(*drawn(self.share, index))
        made = {}
        for name, chosen in zip(("support", "query"), parts, strict=True):
            images, mask = chosen.index, chosen.mask
            if self.valid is not None:
                valid = self.valid[images % self.sampler.images]
                mask = mask & valid
                images = np.take_along_axis(images, stand_ins(valid), axis=1)
            made[name] = _part("index", images, chosen, mask)
        return filled(self.share, index, made)


@dataclass(frozen=True)
class ImageBatches:
    """Batches of episodes whose images are read and transformed for each.

    Attributes:
        sampler: what the episodes are.
        share: this host's part of them.
        examples: the images.
    """

    sampler: EpisodeSampler
    share: Share
    examples: Examples
    cheap: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> Batch:
        first, count = drawn(self.share, index)
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
        batch = filled(self.share, index, made)
        return {**batch, **report({"skipped": skipped})} if skipped else batch

    def _read(
        self, chosen: Chosen, positions: np.ndarray, rng: ExampleRng, skipped: dict[str, str]
    ) -> Batch:
        """The images of ``chosen``; the augmentation of each is seeded by its position.

        Args:
            chosen: which images.
            positions: of the first image of each episode.
            rng: gives each position its randomness.
            skipped: receives the corrupt ones and what is wrong with them.
        """
        images = np.zeros((*chosen.index.shape, *self.examples.shape), self.examples.dtype)
        valid = np.ones(chosen.index.shape, bool)
        for episode, row in enumerate(chosen.index):
            place_of: dict[int, int] = {}
            for place, number in enumerate(row.tolist()):
                if number in place_of:  # repeated to fill a place
                    images[episode, place] = images[episode, place_of[number]]
                    valid[episode, place] = valid[episode, place_of[number]]
                    continue
                place_of[number] = place
                turn, upright = divmod(number, self.sampler.images)
                try:
                    at = rng.at(int(positions[episode]) + place)
                    image = self.examples.image(upright, at)
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
    """For each place the nearest valid one at or before it, cyclically: (episodes, places).

    If an episode has no valid place, each place stands for itself.
    """
    places = np.arange(valid.shape[1])
    before = np.maximum.accumulate(np.where(valid, places, -1), axis=1)
    before = np.where(before < 0, before[:, -1:], before)
    return np.where(before < 0, places, before)


def look_up(store: Any, batch: Batch) -> Batch:
    """``batch`` with images in place of their numbers: {"index": ...} becomes {"input": ...}.

    Pure JAX, for use inside ``jit`` with the store on the device. A batch that has its images is
    returned as it is.

    Args:
        store: `EpisodeData.store`: {"image": (images, height, width, channels)}, or None.
        batch: episodes; ``index`` is (episodes, places).
    """
    import jax.numpy as jnp  # not at the top: threads and workers that make batches do not need JAX

    def with_images(part: Batch) -> Batch:
        if store is None or "index" not in part:
            return part
        rest = {key: value for key, value in part.items() if key != "index"}
        return {"input": jnp.take(store["image"], part["index"], axis=0, mode="clip"), **rest}

    return {**batch, "support": with_images(batch["support"]), "query": with_images(batch["query"])}
