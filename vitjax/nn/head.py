"""The head of convolutional networks: pooling of the last map, then one dense layer."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype, output_dtype
from vitjax.nn.inputs import check_width

HeadPooling = Literal["flatten", "mean"]


def pooled_head(
    module: nn.Module,
    x: Float[Array, "batch height width channels"],
    num_classes: int | None,
    pooling: HeadPooling,
    param_dtype: Any,
    **initialisers: Any,
) -> Float[Array, "batch outputs"]:
    """Pools a map and applies the dense layer ``head``; sows ``pooled`` and ``logits``.

    Args:
        module: the model, within a compact method.
        x: its last map.
        num_classes: number of logits; 0 or None returns what the dense layer would read.
        pooling: the mean over pixels, or all pixels in one row.
        param_dtype: of the model; the result has it, but at least float32.
        **initialisers: ``kernel_init`` and ``bias_init`` of the dense layer.

    Raises:
        ImageError: the head's parameters are for images of another size.
    """
    dtype = output_dtype(param_dtype)
    if pooling == "mean":
        x = jnp.mean(x, axis=(1, 2), dtype=dtype)
    else:
        x = x.reshape(x.shape[0], -1).astype(dtype)
    module.sow("intermediates", "pooled", x)
    if num_classes:
        check_width(
            module,
            "head",
            x,
            "give images of the size that the parameters were initialised with, or set"
            " pooling='mean'",
        )
        param = as_dtype(param_dtype)
        dense = nn.Dense(num_classes, dtype=dtype, param_dtype=param, name="head", **initialisers)
        x = dense(x)
        module.sow("intermediates", "logits", x)
    return x
