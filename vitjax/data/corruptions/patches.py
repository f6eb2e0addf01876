"""Images whose patches are shuffled or hidden.

Both keep texture within patches; shuffling destroys shape, and what is left of an image with hidden
patches tells how much a network relies on the whole. Naseer et al. 2021, arXiv:2105.10497, Sec. 3.1
and 3.3.
"""

from __future__ import annotations

import numpy as np

from vitjax.core.errors import ConfigError


def patch_shuffle(image: np.ndarray, grid: int, rng: np.random.Generator) -> np.ndarray:
    """The image with its ``grid`` x ``grid`` patches in random order.

    Patches have equal sizes; where a side is not divisible, its last pixels stay where they are.

    Args:
        image: (height, width, channels) of any type.
        grid: patches along each side; 1 returns the image as it is.
        rng: the source of all randomness.

    Raises:
        ConfigError: a side has fewer pixels than patches.
    """
    _check_grid(image, grid)
    height, width = (side // grid for side in image.shape[:2])
    shuffled = image.copy()
    part = image[: height * grid, : width * grid]
    patches = part.reshape(grid, height, grid, width, -1).swapaxes(1, 2)
    patches = patches.reshape(grid**2, height, width, -1)[rng.permutation(grid**2)]
    patches = patches.reshape(grid, grid, height, width, -1).swapaxes(1, 2)
    shuffled[: height * grid, : width * grid] = patches.reshape(part.shape)
    return shuffled


def drop_patches(
    image: np.ndarray, fraction: float, grid: int, rng: np.random.Generator
) -> np.ndarray:
    """The image with a random fraction of its ``grid`` x ``grid`` patches black.

    Args:
        image: (height, width, channels) of any type; 0 is black.
        fraction: of the patches, in [0, 1], rounded to a number of them.
        grid: patches along each side; they differ in size by a pixel where a side is not divisible.
        rng: the source of all randomness.

    Raises:
        ConfigError: a side has fewer pixels than patches.
    """
    _check_grid(image, grid)
    kept = np.ones(grid**2, bool)
    kept[rng.permutation(grid**2)[: round(fraction * grid**2)]] = False
    rows, columns = (np.arange(side) * grid // side for side in image.shape[:2])
    mask = kept.reshape(grid, grid)[rows[:, None], columns]
    return image * mask[..., None]


def occlusion_grid(size: tuple[int, int]) -> int:
    """The grid of `drop_patches` for images of a size: 14, or fewer patches of 4 pixels.

    The paper has 14 x 14 patches of 16 pixels.
    """
    return max(1, min(14, min(size) // 4))


def _check_grid(image: np.ndarray, grid: int) -> None:
    if not 1 <= grid <= min(image.shape[:2]):
        raise ConfigError(
            f"an image of {image.shape[0]} x {image.shape[1]} pixels cannot be cut in {grid} x"
            f" {grid} patches; the grid must be from 1 to {min(image.shape[:2])}"
        )
