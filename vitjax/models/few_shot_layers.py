"""What the small networks of few-shot learning share beside `vitjax.models.layers`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.models.batch_norm import BatchNorm
from vitjax.models.layers import ImageError, as_dtype, check_choice
from vitjax.models.pooling import max_pool
from vitjax.registry import ConfigError

# All of them can be differentiated twice; those but ReLU as often as one likes, which finite
# differences of a meta-gradient want.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}
NORMS = ("batch", "group", "layer", "none")
POOLINGS = ("flatten", "mean")


def check_norm(norm: str, epsilon: float, groups: int, widths: Sequence[int]) -> None:
    """Raises ConfigError unless layers of ``widths`` channels can be normalised so."""
    check_choice("norm", norm, NORMS)
    if epsilon <= 0:
        raise ConfigError(f"norm_epsilon={epsilon!r}: it is added to a variance, and is above zero")
    if norm == "group":
        if groups < 1:
            raise ConfigError(f"norm_groups={groups!r}: there is one group at least")
        if wrong := [width for width in widths if width % groups]:
            raise ConfigError(
                f"norm='group': {wrong[0]} channels do not split into norm_groups={groups} groups;"
                f" give norm_groups a divisor of {wrong[0]}"
            )


def check_context(num_context: int) -> None:
    """Raises ConfigError unless ``num_context`` is zero or more."""
    if num_context < 0:
        raise ConfigError(f"num_context={num_context!r}: a number of parameters, 0 for none")


def normalization(
    norm: str,
    *,
    train: bool,
    epsilon: float,
    groups: int = 1,
    axis_name: str | None = None,
    dtype: Any,
    param_dtype: Any,
) -> Callable[..., Callable[..., Array]]:
    """A constructor of normalisation layers, each called ``layer(x, pool=, offset=)``.

    ``pool`` and ``offset`` are as in `vitjax.models.batch_norm.BatchNorm`: the result is max-pooled
    over ``pool`` x ``pool`` pixels, and ``offset`` is added to ``x`` before.

    ``"batch"`` normalises each channel over examples and pixels; ``"layer"`` each example over
    pixels and channels, as tf.contrib's layer normalisation does; ``"group"`` the same within
    groups of channels. All of them have a scale and a shift per channel.

    Args:
        norm: one of `NORMS`.
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


def uniform(limit: float) -> Callable[..., Array]:
    """An initialiser: uniform between minus and plus ``limit``."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def context_parameters(module: nn.Module, count: int, param_dtype: Any) -> Float[Array, "context"]:
    """The leaf ``context`` among the parameters of ``module``: ``count`` numbers, zeros at first.

    Zintgraf et al. 2019 (CAVIA), arXiv:1810.03642, Sec. 3: what is adapted to a task.
    """
    return module.param("context", nn.initializers.zeros, (count,), as_dtype(param_dtype))


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
