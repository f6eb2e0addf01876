"""Cutting batches into micro-batches and joining them, spread evenly over all devices."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array


def cut(examples: Array, pieces: int) -> Array:
    """(batch, ...) -> (pieces, batch / pieces, ...), each piece spread evenly over all devices."""
    rows = examples.reshape(examples.shape[0] // pieces, pieces, *examples.shape[1:])
    return jnp.moveaxis(rows, 1, 0)


def join(parts: Array) -> Array:
    """The inverse of `cut`: (pieces, size, ...) -> (pieces * size, ...)."""
    rows = jnp.moveaxis(parts, 0, 1)
    return rows.reshape(-1, *rows.shape[2:])
