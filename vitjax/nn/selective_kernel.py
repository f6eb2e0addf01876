"""Selective kernel convolution: attention between branches of different kernel sizes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.conv_norm import ConvNorm, Layers

PATHS = 2


class SelectiveKernel(nn.Module):
    """A 3 x 3 convolution and one of dilation 2, mixed channel by channel by a softmax.

    Li et al. 2019, arXiv:1903.06586, Sec. 3.1, Eq. 1 to 6.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        strides: of both convolutions.
        groups: of both convolutions.
        reduced: channels that the weights are computed from (d in Eq. 4).
        split: give each convolution half of the input channels, which the paper does not do.
    """

    layers: Layers
    features: int
    strides: int
    groups: int
    reduced: int
    split: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Convolves and mixes."""
        inputs = jnp.split(x, PATHS, axis=-1) if self.split else [x] * PATHS
        paths = [
            ConvNorm(
                self.layers,
                self.features,
                3,
                self.strides,
                groups=self.groups,
                dilation=i,
                name=f"path{i}",
            )(each)
            for i, each in enumerate(inputs, start=1)
        ]
        weights = jnp.mean(paths[0] + paths[1], axis=(1, 2), keepdims=True)
        weights = self.layers.conv(self.reduced, name="reduce")(weights)
        weights = self.layers.activate(self.layers.norm(name="norm")(weights))
        weights = self.layers.conv(PATHS * self.features, name="select")(weights)
        weights = weights.reshape(*weights.shape[:3], PATHS, self.features)
        first, second = jnp.moveaxis(jax.nn.softmax(weights, axis=3), 3, 0)
        return paths[0] * first + paths[1] * second
