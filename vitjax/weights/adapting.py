"""Resizes weights of a file to the model's grid of patches, patch size and channels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import scipy.ndimage

from vitjax.core.validation import check_value
from vitjax.models.protocol import Model

Interpolation = Literal["bicubic", "bicubic_plain", "bicubic_offset", "bicubic_corners", "bilinear"]


def adapt(
    found: Mapping[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
    module: Model,
    *,
    interpolation: str = "bicubic",
    say: Callable[[str], None] = print,
) -> dict[str, np.ndarray]:
    """Resizes position embeddings and first kernels that have another shape than the model's.

    Args:
        found: the file's arrays under vitjax's names.
        shapes: of the model's parameters, by name.
        module: the model.
        interpolation: of position embeddings; an `Interpolation`, see `resize_positions`.
        say: receives a message for every change.

    Returns:
        All of ``found``; arrays that cannot be adapted are unchanged.

    Raises:
        ConfigError: an unknown ``interpolation``.
    """
    check_value(interpolation, Interpolation, "position_interpolation")
    found = dict(found)
    # A model and the model that is its part, such as the encoder of a U-Net.
    parts: list[tuple[str, Model]] = [("params/", module)]
    if module.backbone is not None:
        part, inner = module.backbone
        parts.append((f"params/{part}/", inner))
    for prefix, model in parts:
        _adapt_kernels(found, shapes, prefix, model, say)
        _adapt_positions(found, shapes, prefix, model, interpolation, say)
    return found


def _adapt_kernels(
    found: dict[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
    prefix: str,
    model: Model,
    say: Callable[[str], None],
) -> None:
    """Brings the image kernels of ``model`` in ``found`` to the model's channels and patches."""
    for kernel_name in model.image_kernels:
        name = prefix + kernel_name
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
        if kernel_name == model.patch_kernel and list(kernel.shape[:2]) != list(size):
            say(
                f"{name}: patches of {_by(kernel.shape)} resized to {_by(size)} pixels"
                " (pseudo-inverse of bilinear resizing, FlexiViT)"
            )
            kernel = resize_patches(kernel, (size[0], size[1]))
        found[name] = kernel


def _adapt_positions(
    found: dict[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
    prefix: str,
    model: Model,
    interpolation: str,
    say: Callable[[str], None],
) -> None:
    """Resizes the position embeddings of ``model`` in ``found`` to the model's grid."""
    name = f"{prefix}{model.position_embedding}"
    if name not in found or name not in shapes:
        return
    positions, shape = found[name], shapes[name]
    if positions.ndim == len(shape) == 4 and positions.shape[1:3] != tuple(shape[1:3]):
        say(
            f"position embeddings resized from {_by(positions.shape[1:])} to {_by(shape[1:])}"
            f" patches ({interpolation})"
        )
        found[name] = resize_positions(positions, (shape[1], shape[2]), interpolation)


def channels_of(model: str | type[Model], arrays: Mapping[str, np.ndarray]) -> int | None:
    """The channels of the images that arrays under vitjax's names are for; None if unknown."""
    names = () if isinstance(model, str) else [f"params/{name}" for name in model.image_kernels]
    kernels = [arrays[name] for name in names if name in arrays and arrays[name].ndim == 4]
    return kernels[0].shape[2] if kernels else None


def resize_positions(
    positions: np.ndarray, grid: tuple[int, int], interpolation: str = "bicubic"
) -> np.ndarray:
    """Position embeddings for another grid of patches.

    Args:
        positions: (1, rows, columns, width).
        grid: the new (rows, columns).
        interpolation: the way of a project:

            - ``"bicubic"``: smoothed if the grid becomes smaller; PyTorch's with antialias. timm,
              open_clip, and DINOv2 with registers.
            - ``"bicubic_plain"``: PyTorch's without antialias. transformers, MAE.
            - ``"bicubic_offset"``: likewise, for a grid that is larger by a tenth of a patch.
              DINO and DINOv2 in the repositories of facebookresearch.
            - ``"bicubic_corners"``: PyTorch's with aligned corners. torchvision.
            - ``"bilinear"``: between the corners of both grids. google-research/vision_transformer
              (arXiv:2010.11929, Sec. 3.2) and big_vision.

    Returns:
        (1, new rows, new columns, width), in float64 or wider.
    """
    wide = positions.astype(np.float64)
    old = (wide.shape[1], wide.shape[2])
    if interpolation == "bilinear":
        return scipy.ndimage.zoom(wide, (1, grid[0] / old[0], grid[1] / old[1], 1), order=1)
    rows, columns = (
        _resizing(*pair, "cubic") if interpolation == "bicubic" else _sampling(*pair, interpolation)
        for pair in zip(old, grid, strict=True)
    )
    return np.einsum("ir,jc,brcw->bijw", rows, columns, wide, optimize=True)


def resize_patches(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A patch embedding's kernel for patches of another size.

    Beyer et al. 2023 (FlexiViT), arXiv:2212.08013, Sec. 3.4: the kernel whose products with resized
    patches are closest to those of the old kernel with the original patches, and equal to them if
    patches become larger. Patches are resized bilinearly, and smoothed if they become smaller.

    Args:
        kernel: (height, width, channels, features).
        size: the new (height, width).

    Returns:
        (new height, new width, channels, features), float64.
    """
    # The pseudo-inverse of a separable resizing is separable.
    rows, columns = (
        np.linalg.pinv(_resizing(old, new, "linear").T)
        for old, new in zip(kernel.shape[:2], size, strict=True)
    )
    return np.einsum("ir,jc,rckf->ijkf", rows, columns, kernel.astype(np.float64), optimize=True)


def change_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel for images with another number of channels.

    One channel gets the sum of all, which is exact for grey images. Otherwise the channels are
    repeated in turn and scaled, so that images with equal channels give the same sums. This is
    timm's rule.

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

    Pixels have half-pixel centres. The filter is stretched if pixels become fewer, and its weights
    at each new pixel sum to one within the row.

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


def _sampling(old: int, new: int, kind: str) -> np.ndarray:
    """The (new, old) matrix of cubic convolution at points, without smoothing.

    Keys 1981 with a = -3/4, as PyTorch has it; beyond the border, the last pixel is repeated.
    """
    if kind == "bicubic_corners":
        points = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        scale = old / (new + (0.1 if kind == "bicubic_offset" else 0))
        points = scale * (np.arange(new) + 0.5) - 0.5
    first = np.floor(points).astype(int)
    found = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        distance = np.abs(points - first - step)
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
        pixels = np.clip(first + step, 0, old - 1)
        np.add.at(found, (np.arange(new), pixels), np.where(distance < 1, near, far))
    return found


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape[:2])
