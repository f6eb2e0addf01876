"""Conversion between the variables of a loop over blocks and of a scan over blocks."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vitjax.core.errors import ConfigError


def stack_layers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Converts parameters, gradients or intermediates of a loop to those of a scan.

    Args:
        tree: nested mappings; entries ``block_0``, ``block_1``, ... of one mapping become
            ``blocks``, with a new first axis.

    Raises:
        ConfigError: the numbers have a gap, or the blocks differ in structure.
    """
    new: dict[str, Any] = {}
    blocks: dict[int, Any] = {}
    for key, value in tree.items():
        if found := re.fullmatch(r"block_(\d+)", key):
            blocks[int(found[1])] = value
        else:
            new[key] = stack_layers(value) if isinstance(value, Mapping) else value
    if blocks:
        if sorted(blocks) != list(range(len(blocks))):
            raise ConfigError(f"blocks {sorted(blocks)} do not count from 0 without a gap")
        layers = [blocks[i] for i in range(len(blocks))]
        if len({jax.tree.structure(layer) for layer in layers}) > 1:
            raise ConfigError("blocks of different structure cannot be stacked")
        new["blocks"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return new


def unstack_layers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `stack_layers`."""
    new: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "blocks":
            for layer in range(len(jax.tree.leaves(value)[0])):
                new[f"block_{layer}"] = jax.tree.map(lambda leaf, i=layer: leaf[i], value)
        else:
            new[key] = unstack_layers(value) if isinstance(value, Mapping) else value
    return new
