"""Split attention: attention between groups of feature maps."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.channels import round_channels
from vitjax.nn.conv_norm import ConvNorm, Layers

RADIX = 2


class SplitAttention(nn.Module):
    """A 3 x 3 convolution into two splits, mixed channel by channel by a softmax.

    Zhang et al. 2020, arXiv:2004.08955, Sec. 3.1 and Fig. 2, for cardinality 1 and radix 2.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
    """

    layers: Layers
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width features"]:
        """Convolves and mixes."""
        layers, features = self.layers, self.features
        reduced = max(round_channels(x.shape[-1] * RADIX / 4), 32)
        x = ConvNorm(layers, RADIX * features, 3, groups=RADIX, name="splits")(x)
        x = x.reshape(*x.shape[:3], RADIX, features)
        weights = jnp.mean(jnp.sum(x, axis=3), axis=(1, 2), keepdims=True)
        weights = layers.conv(reduced, use_bias=True, name="reduce")(weights)
        weights = layers.activate(layers.norm(name="norm")(weights))
        weights = layers.conv(RADIX * features, use_bias=True, name="expand")(weights)
        weights = weights.reshape(*weights.shape[:3], RADIX, features)
        return jnp.sum(x * jax.nn.softmax(weights, axis=3), axis=3)
