"""Stochastic regularisers: dropout, stochastic depth, DropBlock."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def dropout(
    x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, "*shape"]:
    """Zeroes each element with probability ``rate`` and scales the rest by ``1 / (1 - rate)``.

    The key is an argument, where Linen's own dropout draws one by the path of the module, so that
    layers run by a scan and layers run one by one drop the same elements.

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
    """Zeroes each example's whole ``x`` with probability ``rate`` and scales the rest to match.

    Stochastic depth: Huang et al. 2016, arXiv:1603.09382, Sec. 3.

    Args:
        x: output of a residual branch.
        rate: probability of zero; may be traced, because it differs from layer to layer.
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
    """Zeroes squares of ``size`` x ``size`` pixels, each channel its own, and scales the rest.

    DropBlock: Ghiasi et al. 2018, arXiv:1810.12890, Algorithm 1. The rest is scaled by the share
    that was kept of the whole batch, so that the expected sum stays.

    Args:
        x: activations.
        rate: about the share of zeros; squares that overlap make it a little less (Eq. 1).
        size: side of the squares in pixels, cut to the sides of ``x``.
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
    """True for ``side`` places from each place on that is True; ``side - 1`` longer by ``axis``."""
    pads = [(0, 0)] * corners.ndim
    pads[axis] = (side - 1, side - 1)
    padded = jnp.pad(corners, pads)
    length = corners.shape[axis] + side - 1
    shifted = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(side)]
    return functools.reduce(jnp.logical_or, shifted)
