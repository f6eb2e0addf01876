"""Batch normalisation, with the pooling that follows it computed first."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype
from vitjax.nn.pooling import max_pool

# The name of `vitjax_unchanged` in a jaxpr.
UNCHANGED = "vitjax_unchanged"
# With more channels the product with the identity costs more than it saves.
MOST_CHANNELS = 256


class BatchNorm(nn.Module):
    """Normalises each channel over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167, Alg. 1).

    Parameters, state and numbers are those of `flax.linen.BatchNorm`: the variance is biased,
    computed as the mean of squares minus the square of the mean, with moments in float32 or wider.
    Two things differ, both for inner loops, where normalisation, activation and pooling cost as
    much as the convolutions:

    - ``pool`` and ``offset`` take over the pooling after the layer and the bias before it.
    - Values per channel are kept out of fused loops over all pixels, in which XLA would compute
      them again for each pixel; in second derivatives that is most of the time.

    Attributes:
        use_running_average: normalise by ``batch_stats`` instead of the batch, without an update.
        momentum: the fraction of the running moments that an update keeps.
        epsilon: added to the variance.
        axis_name: the mapped axis over which batch moments are averaged; None for none.
        scale_init: initialiser of the scale.
        dtype: of the result.
        param_dtype: of the parameters.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    scale_init: Callable[..., Array] = nn.initializers.ones
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch channels"],
        *,
        pool: int = 1,
        offset: Float[Array, "channels"] | None = None,
    ) -> Float[Array, "*smaller channels"]:
        """Normalises ``x``, and then takes the largest of every ``pool`` x ``pool`` pixels.

        All pixels of a channel have the same scale and shift, so the pixel that is largest after
        normalisation is the largest before, or the smallest where the scale is negative: only that
        one is normalised. A monotonic activation may follow the pooling instead of preceding it.

        Args:
            x: floats; with ``pool`` above 1 of shape (batch, height, width, channels).
            pool: side and stride of the windows in pixels.
            offset: the bias of the layer before, if it was not added. It cancels with the mean of
                the batch, so in training it only enters the running mean.
        """
        features, param_dtype = x.shape[-1], as_dtype(self.param_dtype)
        scale = self.param("scale", self.scale_init, (features,), param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (features,), param_dtype)
        running_mean = self.variable(
            "batch_stats",
            "mean",
            lambda: jnp.zeros((features,), jnp.promote_types(jnp.float32, param_dtype)),
        )
        running_var = self.variable(
            "batch_stats",
            "var",
            lambda: jnp.ones((features,), jnp.promote_types(jnp.float32, param_dtype)),
        )
        if self.use_running_average:
            mean, variance = running_mean.value, running_var.value
            if offset is not None:
                mean = mean - offset
        else:
            mean, square = self._moments(x)
            if not self.is_initializing():
                seen = mean if offset is None else mean + offset
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * seen
                running_var.value = keep * running_var.value + (1 - keep) * _variance(mean, square)
            mean, square = _once(mean), _once(square)
            variance = _variance(mean, square)
        factor = jax.lax.rsqrt(variance + self.epsilon) * scale
        mean, factor, bias = _once(mean), _once(factor), _once(bias)
        if pool > 1:
            x = max_pool(x, pool, scale < 0)
        return ((x - mean) * factor + bias).astype(as_dtype(self.dtype))

    def _moments(self, x: Any) -> tuple[Any, Any]:
        """The mean of each channel and of its square."""
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        axes = tuple(range(x.ndim - 1))
        moments = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
        if self.axis_name is not None and not self.is_initializing():
            moments = jax.lax.pmean(moments, self.axis_name)
        return moments


@contextlib.contextmanager
def running_statistics(patterns: Sequence[str]) -> Iterator[None]:
    """A context in which some layers of batch normalisation are in evaluation mode.

    They normalise by their running statistics without an update, also with ``train=True``. Where a
    part of a model is frozen, its statistics have to be frozen too.

    Args:
        patterns: regular expressions that are searched for in a layer's path, such as
            ``"stage1_block1/norm1"``.
    """
    if not patterns:
        yield
        return

    def evaluate(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm | nn.BatchNorm):
            path = "/".join(module.path)
            if any(re.search(pattern, path) for pattern in patterns):
                # The fields of a running module are frozen. This instance exists for one call of
                # `apply`, so the change has no other effect.
                object.__setattr__(module, "use_running_average", True)
        return call(*arguments, **keywords)

    with nn.intercept_methods(evaluate):
        yield


def _variance(mean: Any, square: Any) -> Any:
    return jnp.maximum(square - jnp.square(mean), 0)


def _once(per_channel: Any) -> Any:
    """Keeps values per channel, and their derivatives, out of fused loops on a CPU."""
    if jax.default_backend() != "cpu" or len(per_channel) > MOST_CHANNELS:
        return per_channel
    return vitjax_unchanged(per_channel)


@jax.jit
def vitjax_unchanged(per_channel: Float[Array, "channels"]) -> Float[Array, "channels"]:
    """``per_channel`` times the identity: XLA does not fuse a product of matrices.

    Finite numbers do not change; an infinity or NaN makes all channels NaN. FLOP counts recognise
    the function by its name and leave it out.
    """
    return per_channel @ jnp.eye(per_channel.shape[-1], dtype=per_channel.dtype)
