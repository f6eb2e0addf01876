"""A checksum over pytrees of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprint(tree: Any) -> int:
    """A checksum over all bits of a pytree of arrays, computed where the arrays are.

    It detects silent failures of disks and copies; the array format has no checksum.
    """
    return int(_fingerprint(list(jax.tree.leaves(tree))))


@jax.jit
def _fingerprint(leaves: list[Any]) -> Any:
    total = jnp.zeros((), jnp.uint32)
    for number, leaf in enumerate(leaves):
        words = _words(jnp.asarray(leaf)).astype(jnp.uint32).ravel()
        # Odd multipliers that differ by position: swapping two values changes the sum.
        position = jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(2654435761)
        multiplier = (position + jnp.uint32(40503 * number)) | jnp.uint32(1)
        total = total * jnp.uint32(31) + jnp.sum(words * multiplier, dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of ``leaf`` as unsigned integers of at most 32 bits."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint8)
    size = min(leaf.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(leaf, np.dtype(f"uint{8 * size}"))
