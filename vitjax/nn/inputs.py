"""Checks of what a model is fed."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from vitjax.core.errors import UserError


class ImageError(UserError):
    """Images of a shape or type that a model cannot take."""


def check_images(images: Any) -> None:
    """Raises ImageError unless ``images`` are floats of shape (batch, height, width, channels)."""
    if images.ndim != 4:
        raise ImageError(
            f"images of shape {tuple(images.shape)}: a model takes (batch, height, width, channels)"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ImageError(
            f"images of dtype {images.dtype}: a model takes floats; scale and normalise them first"
        )


def check_width(module: nn.Module, layer: str, x: Array, why: str) -> None:
    """Raises ImageError where ``layer`` of ``module`` was made for another width than ``x`` has.

    Args:
        module: within its ``__call__``.
        layer: the name of a dense layer of it.
        x: (batch, width), what the layer is to be fed.
        why: what to do about it, for the message.
    """
    if not module.has_variable("params", layer):
        return
    made: int = module.get_variable("params", layer)["kernel"].shape[0]
    if made != x.shape[-1]:
        raise ImageError(
            f"these images give {x.shape[-1]} features and the parameters of {layer!r} were made"
            f" for {made}; {why}"
        )
