"""Checks of a model's inputs."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from vitjax.core.errors import UserError


class ImageError(UserError):
    """Images of a shape or dtype that a model does not accept."""


def check_images(images: Any, least: int = 1) -> None:
    """Raises ImageError unless ``images`` are floats of shape (batch, height, width, channels).

    Args:
        images: an array.
        least: the fewest pixels of a side.
    """
    if images.ndim != 4:
        raise ImageError(
            f"images of shape {tuple(images.shape)}: a model needs (batch, height, width, channels)"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ImageError(
            f"images of dtype {images.dtype}: a model needs floats; scale and normalise them first"
        )
    height, width = images.shape[1:3]
    # Sides of any length, in an exported graph, are symbols without an order.
    if any(isinstance(side, int) and side < least for side in (height, width)):
        raise ImageError(
            f"images of {height} x {width} pixels: this model needs at least {least} x {least};"
            " resize them"
        )


def check_width(module: nn.Module, layer: str, x: Array, why: str) -> None:
    """Raises ImageError if the parameters of ``layer`` are for another width than that of ``x``.

    Args:
        module: a module, within its ``__call__``.
        layer: the name of one of its dense layers.
        x: (batch, width), the input of the layer.
        why: how to fix it, for the message.
    """
    if not module.has_variable("params", layer):
        return
    made: int = module.get_variable("params", layer)["kernel"].shape[0]
    if made != x.shape[-1]:
        raise ImageError(
            f"these images give {x.shape[-1]} features and the parameters of {layer!r} were made"
            f" for {made}; {why}"
        )
