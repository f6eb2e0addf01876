"""Changes of images, and how many of the changed images networks classify correctly."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vitjax.analysis.classifying import Classes
from vitjax.analysis.networks import Network
from vitjax.core.machine import process_cores
from vitjax.data import DataError, LabelledDataset
from vitjax.data.corruptions import corrupt, drop_patches, patch_shuffle
from vitjax.data.corruptions.patches import occlusion_grid
from vitjax.tasks.reading import read_ahead, stacked
from vitjax.training import checks
from vitjax.training.progress import Counter

SHUFFLED, OCCLUDED = "patch_shuffle", "occlusion"
GRIDS = (1, 2, 4, 8)  # of shuffled patches
FRACTIONS = tuple(round(0.1 * tenth, 1) for tenth in range(10))  # of hidden patches


@dataclasses.dataclass(frozen=True)
class Change:
    """One way to change images.

    Attributes:
        name: of a corruption, or "patch_shuffle" or "occlusion".
        level: its severity, the grid of patches, or the fraction of hidden patches.
        function: of an image and a generator.
    """

    name: str
    level: float
    function: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    def __call__(self, image: np.ndarray, seed: int, index: int) -> np.ndarray:
        """The changed image: by the same random numbers at all levels.

        Args:
            image: of the data, before normalisation.
            seed: of all images.
            index: of the image in its split.
        """
        generator = np.random.default_rng([seed, zlib.crc32(self.name.encode()), index])
        return self.function(image, generator)


def labelled(network: Network) -> LabelledDataset:
    """The data of a network's run, whose examples have a class each."""
    data: LabelledDataset = checks.provides(network.experiment.data, LabelledDataset, "robustness")
    return data


def all_changes(
    names: Sequence[str], severities: Sequence[int], size: tuple[int, int]
) -> list[Change]:
    """All changes, for images of which the smallest has this height and width."""

    def corruption(name: str, severity: int) -> Change:
        return Change(name, severity, lambda image, rng: corrupt(image, name, severity, rng))

    def shuffle(grid: int) -> Change:
        return Change(SHUFFLED, grid, lambda image, rng: patch_shuffle(image, grid, rng))

    def occlusion(fraction: float) -> Change:
        grid = occlusion_grid(size)
        return Change(
            OCCLUDED, fraction, lambda image, rng: drop_patches(image, fraction, grid, rng)
        )

    return [
        *(corruption(name, severity) for name in names for severity in severities),
        *(shuffle(grid) for grid in GRIDS if grid <= min(size)),
        *(occlusion(fraction) for fraction in FRACTIONS),
    ]


def batches(
    networks: Sequence[Network], split: str, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Images for each network, their labels and their numbers.

    An image that cannot be read is left out if a run skips corrupt images.
    """
    datas = [labelled(network) for network in networks]
    skip = any(
        network.experiment.config["data"].get("on_corrupt") == "skip" for network in networks
    )
    labels = datas[0].labels(split)

    def read(index: int) -> list[np.ndarray]:
        return [data.example(split, index) for data in datas]

    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        found = read_ahead(read, part.tolist(), "skip" if skip else "error")
        pairs = [
            (index, images)
            for index, images in zip(part.tolist(), found, strict=True)
            if not isinstance(images, DataError)
        ]
        if pairs:
            which = np.array([index for index, _ in pairs])
            columns = zip(*(images for _, images in pairs), strict=True)
            yield [stacked(column) for column in columns], labels[which], which


class Counts:
    """The number of images that each network is right about, after each change and unchanged.

    Attributes:
        examples: the number of images so far.
        clean: right answers on unchanged images, (networks,).
        changed: right answers by the name and the level of a change, each (networks,).
    """

    def __init__(
        self, networks: Sequence[Network], changes: Sequence[Change], batch_size: int, seed: int
    ):
        self._classes = [Classes(network, batch_size) for network in networks]
        self._changes = changes
        self._seed = seed
        self.examples = 0
        self.clean = np.zeros(len(networks), int)
        self.changed = {
            (change.name, change.level): np.zeros(len(networks), int) for change in changes
        }

    def add(
        self, images: Sequence[np.ndarray], labels: np.ndarray, which: np.ndarray, count: Counter
    ) -> None:
        """Counts a batch.

        Args:
            images: for each network, (batch, height, width, channels).
            labels: the classes.
            which: the numbers of the images in their split.
            count: called with the number of images after each change.
        """
        self.examples += len(labels)
        # Each different array once, and which of them each network sees.
        different: list[np.ndarray] = []
        places = []
        for own in images:
            same = [n for n, other in enumerate(different) if _equal(own, other)]
            places.append(same[0] if same else len(different))
            if not same:
                different.append(own)
        self.clean += self._right(different, places, labels)
        count(len(labels))
        with ThreadPoolExecutor(process_cores(), thread_name_prefix="corruptions") as pool:
            for change in self._changes:
                call = functools.partial(_changed, change, self._seed)
                made = [np.stack(list(pool.map(call, own, which.tolist()))) for own in different]
                self.changed[change.name, change.level] += self._right(made, places, labels)
                count(len(labels))

    def _right(
        self, different: Sequence[np.ndarray], places: Sequence[int], labels: np.ndarray
    ) -> np.ndarray:
        return np.array(
            [
                int(np.sum(classes(different[place]) == labels))
                for classes, place in zip(self._classes, places, strict=True)
            ]
        )


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _changed(change: Change, seed: int, image: np.ndarray, index: int) -> np.ndarray:
    return change(image, seed, index)
