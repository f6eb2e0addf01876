"""Stochastic regularisers: dropout, stochastic depth, DropBlock."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def dropout(
    x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Zeroes each element with probability ``rate`` and scales the rest by ``1 / (1 - rate)``.

    The key is an argument so that layers that run in a scan and layers that run one by one drop the
    same elements. Linen's own dropout draws a key by the path of the module.

    Args:
        x: activations.
        rate: probability of zero.
        key: randomness, or None to return ``x`` as it is.
    """
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def drop_path(
    x: Float[Array, "batch *shape"], rate: float | Array, key: PRNGKeyArray | None
) -> Float[Array, "batch *shape"]:
    """Zeroes all of an example's ``x`` with probability ``rate`` and scales the others to match.

    Stochastic depth: Huang et al. 2016, arXiv:1603.09382, Sec. 3.

    Args:
        x: output of a residual branch.
        rate: probability of zero; may be traced, as it differs from layer to layer.
        key: randomness, or None to return ``x`` as it is.
    """
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def drop_block(
    x: Float[Array, "batch height width channels"],
    rate: float,
    size: int,
    key: PRNGKeyArray | None,
) -> Float[Array, "batch height width channels"]:
    """Zeroes squares of ``size`` x ``size`` pixels in each channel, and scales the rest.

    DropBlock: Ghiasi et al. 2018, arXiv:1810.12890, Algorithm 1. The rest is divided by the
    fraction of the batch that is kept, so that the expected sum does not change.

    Args:
        x: activations.
        rate: approximate fraction of zeros; it is smaller where squares overlap (Eq. 1).
        size: side of the squares in pixels, at most that of ``x``.
        key: randomness, or None to return ``x`` as it is.
    """
    if key is None or rate == 0:
        return x
    batch, height, width, channels = x.shape
    sides = min(size, height), min(size, width)
    corners = height - sides[0] + 1, width - sides[1] + 1
    probability = rate * height * width / (sides[0] * sides[1] * corners[0] * corners[1])
    dropped = jax.random.bernoulli(key, min(probability, 1.0), (batch, *corners, channels))
    for axis, side in zip((1, 2), sides, strict=True):
        dropped = _spread(dropped, side, axis)
    kept = dropped.size / jnp.maximum(jnp.sum(~dropped), 1)
    return jnp.where(dropped, 0, x * kept.astype(x.dtype))


def _spread(corners: Array, side: int, axis: int) -> Array:
    """Extends each True along ``axis`` to ``side`` places; the axis grows by ``side - 1``."""
    pads = [(0, 0)] * corners.ndim
    pads[axis] = (side - 1, side - 1)
    padded = jnp.pad(corners, pads)
    length = corners.shape[axis] + side - 1
    shifted = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(side)]
    return functools.reduce(jnp.logical_or, shifted)
