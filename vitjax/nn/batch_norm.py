"""Batch normalisation, with the pooling that follows it done first."""

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

# The name that `vitjax_unchanged` has among a program's functions.
UNCHANGED = "vitjax_unchanged"
# Above so many channels the product with the identity costs more than it saves.
MOST_CHANNELS = 256


class BatchNorm(nn.Module):
    """Normalises each channel over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167, Alg. 1).

    Parameters, state and numbers are those of `flax.linen.BatchNorm`: the variance is the biased
    one, as the mean of squares less the square of the mean, and the moments are computed in float32
    at least. Two things are done otherwise, both for inner loops, where this layer and what follows
    it cost as much as the convolutions:

    - ``pool`` and ``offset`` let the caller hand over what stands before and behind the layer.
    - What is computed once per channel is kept from being fused into loops over all pixels, where
      XLA would compute it again for each of them; in second derivatives that is most of the time.

    Attributes:
        use_running_average: normalise by ``batch_stats``, not by the batch; leaves them alone.
        momentum: share of the running moments that an update keeps.
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

        A channel is scaled and shifted by the same numbers everywhere, so its largest pixel, or its
        smallest where the scale is negative, is known before: the rest never needs to be
        normalised. An activation that never falls may as well follow as stand in between.

        Args:
            x: floats; with ``pool`` above one (batch, height, width, channels).
            pool: the window's sides in pixels, which are its steps too.
            offset: the bias of the layer before, where it was not added yet. The mean of the batch
                takes it away again, so then it only enters the running mean.
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
        """The means of each channel and of its square."""
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        axes = tuple(range(x.ndim - 1))
        moments = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
        if self.axis_name is not None and not self.is_initializing():
            moments = jax.lax.pmean(moments, self.axis_name)
        return moments


@contextlib.contextmanager
def running_statistics(patterns: Sequence[str]) -> Iterator[None]:
    """Within it, some layers of batch normalisation are in evaluation mode whatever a model says.

    They normalise by their running statistics, and leave them alone. A model knows one mode for all
    of its layers; where a part of it is frozen, that part's statistics have to be so too.

    Args:
        patterns: regular expressions, searched for in a layer's path, such as
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
                # A module's fields are closed once it runs. This one lives for a single call of
                # `apply`, so nobody else sees the change.
                object.__setattr__(module, "use_running_average", True)
        return call(*arguments, **keywords)

    with nn.intercept_methods(evaluate):
        yield


def _variance(mean: Any, square: Any) -> Any:
    return jnp.maximum(square - jnp.square(mean), 0)


def _once(per_channel: Any) -> Any:
    """Keeps what is ``per_channel``, and its derivatives, out of fusions on a CPU."""
    if jax.default_backend() != "cpu" or len(per_channel) > MOST_CHANNELS:
        return per_channel
    return vitjax_unchanged(per_channel)


@jax.jit
def vitjax_unchanged(per_channel: Float[Array, "channels"]) -> Float[Array, "channels"]:
    """``per_channel`` times the identity: XLA computes a product of matrices by itself.

    Finite numbers stay as they are; an infinity or NaN makes all channels NaN. It is no work that
    the model asks for; whoever counts that knows it by its name.
    """
    return per_channel @ jnp.eye(per_channel.shape[-1], dtype=per_channel.dtype)
