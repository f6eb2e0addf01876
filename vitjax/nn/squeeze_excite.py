"""Squeeze and excitation: channels are scaled by what the complete map holds."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.conv_norm import Layers


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate between 0 and 1, computed from the means of all channels.

    Hu et al. 2018, arXiv:1709.01507, Eq. 2 to 4: the means pass a 1 x 1 convolution ``reduce``, the
    activation of ``layers``, a 1 x 1 convolution ``expand`` and the logistic function.

    Attributes:
        layers: what the network's layers share.
        reduced: channels between the two convolutions.
    """

    layers: Layers
    reduced: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Scales ``x``."""
        gate = jnp.mean(x, axis=(1, 2), keepdims=True)
        gate = self.layers.conv(self.reduced, use_bias=True, name="reduce")(gate)
        gate = self.layers.activate(gate)
        gate = self.layers.conv(x.shape[-1], use_bias=True, name="expand")(gate)
        return x * jax.nn.sigmoid(gate)
