"""Weight of each pixel in the loss: rare classes and borders between touching cells weigh more.

1505.04597, section 3, equation 2.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from vitjax.core.atomic import new_file
from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.validation import NonNegativeFloat, NonNegativeInt, PositiveFloat
from vitjax.data.sample import IGNORE
from vitjax.data.share import WHERE
from vitjax.losses.class_weights import inverse

# Beyond this number of sigmas the second term is below 2e-8 of w0.
_REACH = 6.0
_MOST_BYTES = 2**29  # kept in a process


def weight_map(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    foreground: int = 1,
    balance: np.ndarray | None = None,
) -> np.ndarray:
    """The weight of each pixel by 1505.04597, equation 2.

    w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are the Euclidean distances to the nearest and to the second nearest cell. The second
    term applies outside of cells only, as in the paper's figure; it is left out where d1 or d2 is
    above 6 sigma.

    Args:
        label: class indices, (height, width), -1 where a pixel does not count.
        instances: the number of the cell of each pixel, 0 for none, (height, width); None takes the
            connected parts of class ``foreground``, not connected by corners alone.
        w0: the weight of the narrowest border.
        sigma: in pixels, how far borders reach.
        foreground: the class of cells.
        balance: w_c of each class, (classes,); None balances the classes of this image.

    Returns:
        float32 of shape (height, width); 0 where ``label`` is -1.
    """
    counted = label != IGNORE
    if balance is None:
        balance = inverse(np.bincount(label[counted], minlength=1))
    if instances is None:
        # A diagonal membrane one pixel wide is a border too.
        instances, _ = ndimage.label(label == foreground)
    weight = np.where(counted, balance[np.where(counted, label, 0)], 0).astype(np.float64)
    nearest = np.full((2, *label.shape), np.inf)
    reach = int(np.ceil(_REACH * sigma))
    for number, found in enumerate(ndimage.find_objects(instances), start=1):
        if found is None:
            continue
        # The complete cell and all pixels that it can matter to: distances inside are exact.
        box = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in found)
        distance = ndimage.distance_transform_edt(instances[box] != number)
        first, second = nearest[0][box], nearest[1][box]
        second[...] = np.minimum(second, np.maximum(first, distance))
        first[...] = np.minimum(first, distance)
    nearest[nearest > _REACH * sigma] = np.inf
    border = w0 * np.exp(-(nearest.sum(0) ** 2) / (2 * sigma**2))
    weight += np.where(counted & (instances == 0), border, 0)
    return weight.astype(np.float32)


@dataclass(frozen=True)
class WeightSettings:
    """The section ``weight_map`` of a config.

    Attributes:
        w0: as of `weight_map`.
        sigma: in pixels, as of `weight_map`.
        foreground: class index of cells.
        balance: whether w_c balances the classes of the training data; otherwise it is 1.
        cache_dir: folder to keep maps in from run to run, or None.
    """

    w0: NonNegativeFloat = 10.0
    sigma: PositiveFloat = 5.0
    foreground: NonNegativeInt = 1
    balance: bool = True
    cache_dir: str | None = None

    def check(self, class_names: Sequence[str]) -> None:
        """Raises ConfigError unless ``foreground`` is one of the classes."""
        if self.foreground >= len(class_names):
            raise ConfigError(
                f"{WHERE}.weight_map.foreground is {self.foreground!r}; it must be a class index, 0"
                f" to {len(class_names) - 1} ({', '.join(class_names)})"
            )


class WeightMaps:
    """`weight_map` of the images of one split, each computed once.

    Maps are kept in this process up to half a gibibyte, and with a ``cache_dir`` also in files,
    named by all that a map depends on, so that no file is ever out of date.
    """

    def __init__(self, settings: WeightSettings, balance: np.ndarray):
        """Remembers what maps depend on.

        Args:
            settings: of the section.
            balance: w_c of each class.
        """
        self._settings = settings
        self._balance = balance
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Maps go to no worker process, and locks cannot.
        return WeightMaps, (self._settings, self._balance)

    def of(self, index: int, label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        """The map of the image at ``index``, float32 of shape (height, width); read only.

        Args:
            index: of the image.
            label: its class indices, (height, width).
            instances: its cells, or None.
        """
        kept = self._kept.get(index)
        if kept is None:
            kept = self._stored(label, instances)
            with self._lock:
                if index not in self._kept and self._bytes + kept.nbytes <= _MOST_BYTES:
                    self._kept[index] = kept
                    self._bytes += kept.nbytes
        return kept

    def _stored(self, label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        """The map from the cache's folder, computed and put there first if it is missing."""
        if self._settings.cache_dir is None:
            return self._computed(label, instances)
        digest = hashlib.sha256(repr((self._settings.w0, self._settings.sigma)).encode())
        digest.update(repr((self._settings.foreground, label.shape)).encode())
        for array in (self._balance, label, instances):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        folder = Path(expanded(self._settings.cache_dir))
        path = folder / f"{digest.hexdigest()[:32]}.npy"
        try:
            return np.load(path)
        except (OSError, ValueError, EOFError):  # missing, or cut short
            pass
        weight = self._computed(label, instances)
        with new_file(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, weight)
        return weight

    def _computed(self, label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        settings = self._settings
        return weight_map(
            label, instances, settings.w0, settings.sigma, settings.foreground, self._balance
        )
