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
    """A constructor of normalisation layers, each called ``layer(x, pool=, offset=)``.

    ``pool`` and ``offset`` are as in `vitjax.nn.batch_norm.BatchNorm`: the result is max-pooled
    over ``pool`` x ``pool`` pixels, and ``offset`` is added to ``x`` before.

    ``"batch"`` normalises each channel over examples and pixels; ``"layer"`` each example over
    pixels and channels, as tf.contrib's layer normalisation does; ``"group"`` the same within
    groups of channels. All of them have a scale and a shift per channel.

    Args:
        norm: the kind.
        train: batch normalisation takes the batch's statistics, not the running ones.
        epsilon: added to the variance.
        groups: groups of group normalisation.
        axis_name: the mapped axis over which batch statistics are averaged.
        dtype: of the computation.
        param_dtype: of the parameters.
    """
    dtypes: dict[str, Any] = {"dtype": as_dtype(dtype), "param_dtype": as_dtype(param_dtype)}

    def make(name: str) -> Callable[..., Array]:
        if norm == "batch":
            return BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=epsilon,
                axis_name=axis_name,
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
                    name=name,
                    **dtypes,
                )(x)
            return max_pool(x, pool) if pool > 1 else x

        return call

    return make


# Both reference implementations (google-research/vision_transformer and timm) use it.
LAYER_NORM_EPSILON = 1e-6


def layer_norm(
    name: str, dtype: Any, param_dtype: Any, epsilon: float = LAYER_NORM_EPSILON
) -> nn.LayerNorm:
    """Layer normalisation as the ViT family uses it.

    The variance is taken around the mean: E[x^2] - E[x]^2 loses all its digits in the channels of
    very large mean that trained ViTs have.
    """
    return nn.LayerNorm(
        epsilon=epsilon,
        use_fast_variance=False,
        dtype=as_dtype(dtype),
        param_dtype=as_dtype(param_dtype),
        name=name,
    )
