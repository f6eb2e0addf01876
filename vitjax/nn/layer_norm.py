"""Layer normalisation over the channels of each token."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.dtypes import as_dtype

# Of google-research/vision_transformer and of timm.
LAYER_NORM_EPSILON = 1e-6


class LayerNorm(nn.Module):
    """Normalises each token over its channels (Ba et al. 2016, arXiv:1607.06450, Sec. 3.1).

    Parameters and numbers are those of `flax.linen.LayerNorm` with ``use_fast_variance=False``: the
    variance is computed around the mean, since E[x^2] - E[x]^2 has no correct digits in the
    channels of very large mean that trained ViTs have. Moments are in float32 or wider.

    The derivative is written by hand: from that of the formula, XLA on CPUs computes the input
    again, with all residual sums before it, in each loop that reads it. It has reverse-mode
    derivatives of any order, and no forward mode.

    Attributes:
        epsilon: added to the variance.
        dtype: of the result.
        param_dtype: of the scale and the bias.
    """

    epsilon: float = LAYER_NORM_EPSILON
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Normalises ``x``, and applies a scale and a bias per channel."""
        features, param_dtype = (x.shape[-1],), as_dtype(self.param_dtype)
        scale = self.param("scale", nn.initializers.ones, features, param_dtype)
        bias = self.param("bias", nn.initializers.zeros, features, param_dtype)
        wide = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        y = standardized(wide, self.epsilon) * scale + bias
        return y.astype(as_dtype(self.dtype))


def layer_norm(
    name: str, dtype: Any, param_dtype: Any, epsilon: float = LAYER_NORM_EPSILON
) -> LayerNorm:
    """A `LayerNorm`, as the ViT family uses it."""
    return LayerNorm(epsilon, dtype, param_dtype, name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def standardized(x: Float[Array, "*batch n"], epsilon: float) -> Float[Array, "*batch n"]:
    """``x`` of mean 0 and variance 1 over the last axis; ``epsilon`` is added to the variance."""
    return _standardized(x, epsilon)[0]


def _standardized(x: Any, epsilon: float) -> tuple[Any, Any]:
    """`standardized` and the reciprocal of the standard deviation."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    reciprocal = jax.lax.rsqrt(variance + epsilon)
    return centred * reciprocal, reciprocal


def _forward(x: Any, epsilon: float) -> tuple[Any, tuple[Any, Any]]:
    y, reciprocal = _standardized(x, epsilon)
    return y, (y, reciprocal)


def _backward(epsilon: float, kept: tuple[Any, Any], cotangent: Any) -> tuple[Any]:
    """The cotangent without its parts along the mean and along the variance."""
    y, reciprocal = kept
    mean = jnp.mean(cotangent, axis=-1, keepdims=True)
    along = jnp.mean(cotangent * y, axis=-1, keepdims=True)
    return (reciprocal * (cotangent - mean - y * along),)


standardized.defvjp(_forward, _backward)
