"""Normalisation layers by name."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array

from vitjax.core.errors import ConfigError
from vitjax.nn.batch_norm import BatchNorm
from vitjax.nn.dtypes import as_dtype
from vitjax.nn.pooling import max_pool

Norm = Literal["batch", "group", "layer", "none"]


def check_groups(norm: str, groups: int, widths: Sequence[int]) -> None:
    """Raises ConfigError if group normalisation cannot split layers of ``widths`` channels."""
    if norm == "group" and (wrong := [width for width in widths if width % groups]):
        raise ConfigError(
            f"norm='group': {wrong[0]} channels do not split into norm_groups={groups} groups;"
            f" give norm_groups a divisor of {wrong[0]}"
        )


def normalization(
    norm: Norm,
    *,
    train: bool,
    epsilon: float,
    groups: int = 1,
    axis_name: str | None = None,
    dtype: Any,
    param_dtype: Any,
) -> Callable[..., Callable[..., Array]]:
    """A constructor ``make(name, scale_init)`` of normalisation layers ``layer(x, pool, offset)``.

    As in `vitjax.nn.batch_norm.BatchNorm`, ``offset`` is added to ``x`` first, and the result is
    max-pooled over ``pool`` x ``pool`` pixels. Each layer has a scale and a shift per channel.

    Args:
        norm: ``"batch"`` normalises each channel over examples and pixels; ``"layer"`` each example
            over pixels and channels, as tf.contrib's layer normalisation does; ``"group"`` each
            example within groups of channels (Wu and He 2018, arXiv:1803.08494, Sec. 3); ``"none"``
            leaves ``x`` as it is.
        train: batch normalisation uses the statistics of the batch instead of the running ones.
        epsilon: added to the variance.
        groups: groups of group normalisation.
        axis_name: the mapped axis over which batch statistics are averaged.
        dtype: of the computation.
        param_dtype: of the parameters.
    """
    dtypes: dict[str, Any] = {"dtype": as_dtype(dtype), "param_dtype": as_dtype(param_dtype)}

    def make(
        name: str, scale_init: Callable[..., Array] = nn.initializers.ones
    ) -> Callable[..., Array]:
        if norm == "batch":
            return BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=epsilon,
                axis_name=axis_name,
                scale_init=scale_init,
                name=name,
                **dtypes,
            )

        def call(x: Array, *, pool: int = 1, offset: Array | None = None) -> Array:
            x = x if offset is None else x + offset.astype(x.dtype)
            if norm != "none":
                x = nn.GroupNorm(
                    num_groups=groups if norm == "group" else 1,
                    epsilon=epsilon,
                    use_fast_variance=False,
                    scale_init=scale_init,
                    name=name,
                    **dtypes,
                )(x)
            return max_pool(x, pool) if pool > 1 else x

        return call

    return make
