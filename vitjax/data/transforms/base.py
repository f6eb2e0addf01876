"""What a transform is: it says what it does to every field of a sample."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from vitjax.core.registry import Registry
from vitjax.data.errors import DataError
from vitjax.data.sample import Sample

Size = tuple[int, int]  # (height, width) in pixels


class Transform(ABC):
    """A small picklable callable from sample to sample.

    Derive from `Photometric` what changes values of images, and from this class what moves pixels:
    such a transform moves all fields by one geometry, with the functions of
    `vitjax.data.transforms.moving`.

    Attributes:
        random: whether it draws from its generator. Results of the others can be kept in memory.
        reversible: whether the result shows the complete image, so that `undo` can bring maps of
            the result back to the image's size.
    """

    random: ClassVar[bool] = True
    reversible: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The transformed sample; the given one stays as it is.

        Args:
            sample: what a source or the transform before made.
            rng: the source of all randomness.
        """

    def sized(self, size: Size | None) -> Size | None:
        """(height, width) of the result for an image of ``size``; None stands for any size."""
        return size

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """Maps of a result at the size of the image it was made of; for `reversible` transforms.

        Args:
            maps: floats, (height, width, channels).
            size: (height, width) of the image.
        """
        raise NotImplementedError(f"{type(self).__name__} is not reversible")


class Photometric(Transform):
    """A transform that changes images and leaves their size and all other fields as they are.

    A second image is changed with the same random numbers.
    """

    reversible = True

    @abstractmethod
    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed image, as a new array.

        Args:
            image: uint8 or float32, (height, width, channels).
            rng: the source of all randomness.
        """

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample with changed images."""
        if sample.second_image is None:
            return sample.replace(image=self._changed(sample.image, rng))
        again = copy.deepcopy(rng)
        return sample.replace(
            image=self._changed(sample.image, rng),
            second_image=self._changed(sample.second_image, again),
        )

    def undo(self, maps: np.ndarray, size: Size) -> np.ndarray:
        """The maps as they are."""
        return maps

    def _changed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changed = self.change(image, rng)
        if changed.shape[:2] != image.shape[:2]:
            raise DataError(
                f"{type(self).__name__} made an image of shape {changed.shape} of one of shape"
                f" {image.shape}; a Photometric transform keeps height and width: derive from"
                " vitjax.data.transforms.Transform instead"
            )
        return changed


TRANSFORMS: Registry[Callable[..., Transform]] = Registry("transform")

register = TRANSFORMS.register
