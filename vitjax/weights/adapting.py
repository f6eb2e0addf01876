"""Weights of a file brought to the model's grid of patches, size of patches and channels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import numpy as np
import scipy.ndimage

from vitjax import models
from vitjax.core.validation import check_choice

INTERPOLATIONS = ("bicubic", "bilinear")

_POSITIONS = "params/position_embedding"
_PATCHES = "params/patch_embedding/kernel"
# The kernels that images go into.
_FIRST: dict[type[nn.Module], tuple[str, ...]] = {
    models.ViT: (_PATCHES,),
    models.ResNet: ("params/stem_conv/kernel",),
    models.UNet: ("params/down1/conv1/kernel",),
    models.UNetPlusPlus: ("params/node0_0/conv1/kernel",),
    models.UNetResNet: ("params/encoder/stem_conv/kernel",),
    models.Conv4: ("params/conv1/kernel",),
    models.ResNet12: (
        "params/stage1_block1/conv1/kernel",
        "params/stage1_block1/shortcut_conv/kernel",
    ),
}


def adapt(
    found: Mapping[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
    module: nn.Module,
    *,
    interpolation: str = "bicubic",
    say: Callable[[str], None] = print,
) -> dict[str, np.ndarray]:
    """Resizes position embeddings and first kernels that have another shape than the model's.

    Args:
        found: the file's arrays under our names.
        shapes: of the model's leaves, by name.
        module: the model.
        interpolation: of position embeddings; one of `INTERPOLATIONS`, see `resize_positions`.
        say: is told of every change.

    Returns:
        All of ``found``; what cannot be adapted is as it was.

    Raises:
        ConfigError: an unknown ``interpolation``.
    """
    check_choice("position_interpolation", interpolation, INTERPOLATIONS)
    found = dict(found)
    for name in _FIRST.get(type(module), ()):
        if name not in found or name not in shapes or found[name].ndim != len(shapes[name]):
            continue
        kernel, (*size, channels, width) = found[name], shapes[name]
        if kernel.shape[-1] != width:
            continue
        if kernel.shape[2] != channels:
            say(
                f"{name}: from {kernel.shape[2]} to {channels} channels of images"
                f" ({'summed' if channels == 1 else 'repeated in turn and scaled'})"
            )
            kernel = change_channels(kernel, channels)
        if name == _PATCHES and list(kernel.shape[:2]) != list(size):
            say(
                f"{name}: patches of {_by(kernel.shape)} resized to {_by(size)} pixels"
                " (pseudo-inverse of bilinear resizing, FlexiViT)"
            )
            kernel = resize_patches(kernel, (size[0], size[1]))
        found[name] = kernel
    if _POSITIONS in found and _POSITIONS in shapes:
        positions, shape = found[_POSITIONS], shapes[_POSITIONS]
        if positions.ndim == len(shape) == 4 and positions.shape[1:3] != tuple(shape[1:3]):
            say(
                f"position embeddings resized from {_by(positions.shape[1:])} to {_by(shape[1:])}"
                f" patches ({interpolation})"
            )
            found[_POSITIONS] = resize_positions(positions, (shape[1], shape[2]), interpolation)
    return found


def channels_of(model: str | type[nn.Module], arrays: Mapping[str, np.ndarray]) -> int | None:
    """The channels of images that a class's arrays are for, under our names, if they tell."""
    names = () if isinstance(model, str) else _FIRST.get(model, ())
    kernels = [arrays[name] for name in names if name in arrays and arrays[name].ndim == 4]
    return kernels[0].shape[2] if kernels else None


def resize_positions(
    positions: np.ndarray, grid: tuple[int, int], interpolation: str = "bicubic"
) -> np.ndarray:
    """Position embeddings for another grid of patches.

    Args:
        positions: (1, rows, columns, width).
        grid: the new (rows, columns).
        interpolation: ``"bicubic"``, smoothed where the grid becomes smaller, which is PyTorch's
            with antialias and so timm's; or ``"bilinear"`` between the corners of both grids, as
            google-research/vision_transformer does (arXiv:2010.11929, Sec. 3.2).

    Returns:
        (1, new rows, new columns, width), in float64 or wider.
    """
    wide = positions.astype(np.float64)
    if interpolation == "bilinear":
        old = positions.shape[1:3]
        return scipy.ndimage.zoom(wide, (1, grid[0] / old[0], grid[1] / old[1], 1), order=1)
    rows, columns = (
        _resizing(old, new, "cubic") for old, new in zip(wide.shape[1:3], grid, strict=True)
    )
    return np.einsum("ir,jc,brcw->bijw", rows, columns, wide, optimize=True)


def resize_patches(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A patch embedding's kernel for patches of another size.

    Beyer et al. 2023 (FlexiViT), arXiv:2212.08013, Sec. 3.4: the kernel whose products with resized
    patches are nearest to those of the old kernel with the patches as they were; equal, where
    patches become larger. Patches are resized bilinearly, smoothed where they become smaller.

    Args:
        kernel: (height, width, channels, features).
        size: the new (height, width).

    Returns:
        (new height, new width, channels, features), float64.
    """
    # Of a separable resizing, the pseudo-inverse is so too.
    rows, columns = (
        np.linalg.pinv(_resizing(old, new, "linear").T)
        for old, new in zip(kernel.shape[:2], size, strict=True)
    )
    return np.einsum("ir,jc,rckf->ijkf", rows, columns, kernel.astype(np.float64), optimize=True)


def change_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel for images of another number of channels.

    To one channel the sum over all, which is exact for grey images; else the channels in turn,
    scaled so that images alike in all channels give the same sums. This is timm's rule.

    Args:
        kernel: (height, width, channels, features).
        channels: the new number.
    """
    old = kernel.shape[2]
    wide = kernel.astype(np.float64)
    if channels == 1:
        return wide.sum(axis=2, keepdims=True)
    return wide[:, :, np.arange(channels) % old] * (old / channels)


@functools.cache
def _resizing(old: int, new: int, kind: str) -> np.ndarray:
    """The (new, old) matrix that resizes a row of ``old`` pixels.

    Half-pixel centres; the filter is stretched where pixels become fewer, and its weights at each
    new pixel sum to one within the row.

    Args:
        old: pixels.
        new: pixels.
        kind: ``"linear"`` or ``"cubic"`` (Keys 1981, with a = -1/2).
    """
    scale = old / new
    stretch = max(scale, 1.0)
    centres = scale * (np.arange(new) + 0.5)
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / stretch
    if kind == "linear":
        weights = np.clip(1 - distance, 0, None)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape[:2])
