"""Inception blocks: branches of convolutions and poolings side by side, given as a table."""

from __future__ import annotations

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.conv import Padding
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.window_pooling import average_pool, max_pool


class Step(NamedTuple):
    """A convolution of a branch, with batch normalisation and an activation.

    Attributes:
        features: output channels.
        kernel: as of `vitjax.nn.conv_norm.ConvNorm`.
        strides: likewise.
        padding: likewise.
    """

    features: int
    kernel: int | tuple[int, int] = 1
    strides: int = 1
    padding: Padding = None


class Pool(NamedTuple):
    """Pooling of 3 x 3 windows in a branch.

    Attributes:
        kind: what is taken of each window.
        strides: step in pixels.
        padding: pixels on each side.
        ceil: see `vitjax.nn.window_pooling.max_pool`.
        count_padding: see `vitjax.nn.window_pooling.average_pool`.
    """

    kind: Literal["max", "average"]
    strides: int = 1
    padding: int = 1
    ceil: bool = False
    count_padding: bool = True


class Fork(NamedTuple):
    """Convolutions at the end of a branch that read the same map; their outputs are concatenated.

    Attributes:
        steps: the convolutions.
    """

    steps: tuple[Step, ...]


Branch = tuple[Step | Pool | Fork, ...]
Table = tuple[Branch, ...]


def scaled(features: int, factor: float) -> int:
    """``features`` times ``factor``, and at least 1."""
    return max(1, round(features * factor))


def pool(x: Float[Array, "batch height width channels"], spec: Pool) -> Array:
    """``x`` pooled."""
    if spec.kind == "max":
        return max_pool(x, 3, spec.strides, spec.padding, ceil=spec.ceil)
    counted = spec.count_padding
    return average_pool(x, 3, spec.strides, spec.padding, ceil=spec.ceil, count_padding=counted)


class Mixed(nn.Module):
    """The branches of a table, whose outputs are concatenated.

    Szegedy et al. 2015, arXiv:1409.4842, Fig. 2(b). The convolution at place j of branch i is
    ``branch<i>_conv<j>``, and those of a `Fork` are ``branch<i>_conv<j>a``, ``branch<i>_conv<j>b``;
    poolings count as places. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        table: the branches.
        width_factor: multiplies the numbers of channels.
        use_bias: convolutions have a bias.
    """

    layers: Layers
    table: Table
    width_factor: float = 1.0
    use_bias: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        ends: list[Array] = []
        for i, branch in enumerate(self.table, start=1):
            y = x
            for j, step in enumerate(branch, start=1):
                name = f"branch{i}_conv{j}"
                if isinstance(step, Pool):
                    y = pool(y, step)
                elif isinstance(step, Step):
                    y = self._conv(step, name)(y)
                else:
                    letters = zip("ab", step.steps, strict=True)
                    y = jnp.concatenate([self._conv(s, name + a)(y) for a, s in letters], axis=-1)
            ends.append(y)
        x = jnp.concatenate(ends, axis=-1)
        self.sow("intermediates", "output", x)
        return x

    def _conv(self, step: Step, name: str) -> ConvNorm:
        return ConvNorm(
            self.layers,
            scaled(step.features, self.width_factor),
            step.kernel,
            step.strides,
            step.padding,
            use_bias=self.use_bias,
            name=name,
        )
