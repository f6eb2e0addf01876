"""Inception blocks: branches of convolutions and poolings side by side, given as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.channels import scaled
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
        padding: pixels on each side, as of `vitjax.nn.conv.Conv`.
        ceil: see `vitjax.nn.window_pooling.max_pool`.
        count_padding: see `vitjax.nn.window_pooling.average_pool`.
    """

    kind: Literal["max", "average"]
    strides: int = 1
    padding: Padding = 1
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


def pool(x: Float[Array, "batch height width channels"], spec: Pool) -> Array:
    """``x`` pooled."""
    if spec.kind == "max":
        return max_pool(x, 3, spec.strides, spec.padding, ceil=spec.ceil)
    counted = spec.count_padding
    return average_pool(x, 3, spec.strides, spec.padding, ceil=spec.ceil, count_padding=counted)


def conv(
    layers: Layers, step: Step, name: str, width_factor: float = 1.0, use_bias: bool = False
) -> ConvNorm:
    """The layer of a step."""
    features = scaled(step.features, width_factor)
    return ConvNorm(
        layers, features, step.kernel, step.strides, step.padding, use_bias=use_bias, name=name
    )


def unpadded_stem(
    layers: Layers, images: Array, width_factor: float = 1.0, *, last: bool = True
) -> dict[str, Array]:
    """The convolutions ``stem1`` to ``stem5`` of Inception v3, within a compact method.

    Szegedy et al. 2016, arXiv:1512.00567, Table 1, with the 1 x 1 convolution of TensorFlow's code.
    All but the third are not padded. Max pooling precedes the fourth.

    Args:
        layers: what the network's layers share.
        images: floats.
        width_factor: multiplies the numbers of channels.
        last: whether there are ``stem4`` and ``stem5``.

    Returns:
        The maps ``stem3`` and ``stem5``.
    """
    x = images
    for i, step in enumerate((Step(32, 3, 2, 0), Step(32, 3, 1, 0), Step(64, 3)), start=1):
        x = conv(layers, step, f"stem{i}", width_factor)(x)
    found = {"stem3": x}
    if last:
        x = conv(layers, Step(80), "stem4", width_factor)(max_pool(x, 3, 2))
        found["stem5"] = conv(layers, Step(192, 3, 1, 0), "stem5", width_factor)(x)
    return found


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
                    y = conv(self.layers, step, name, self.width_factor, self.use_bias)(y)
                else:
                    y = jnp.concatenate(
                        [
                            conv(
                                self.layers, each, name + letter, self.width_factor, self.use_bias
                            )(y)
                            for letter, each in zip("ab", step.steps, strict=True)
                        ],
                        axis=-1,
                    )
            ends.append(y)
        x = jnp.concatenate(ends, axis=-1)
        self.sow("intermediates", "output", x)
        return x


def stages(
    layers: Layers,
    x: Float[Array, "batch height width channels"],
    tables: Sequence[tuple[Sequence[Table], Table | None]],
    width_factor: float = 1.0,
    use_bias: bool = False,
) -> dict[str, Array]:
    """Stages of `Mixed` blocks, within a compact method; the last map of each.

    Args:
        layers: as of `Mixed`.
        x: what the first stage reads.
        tables: of each stage the tables of its blocks ``stage<s>_block<b>``, and that of the block
            ``stage<s>_transition`` with a stride that follows, if any.
        width_factor: as of `Mixed`.
        use_bias: as of `Mixed`.
    """
    found = {}
    for stage, (blocks, transition) in enumerate(tables, start=1):
        for i, table in enumerate(blocks, start=1):
            name = f"stage{stage}_block{i}"
            x = Mixed(layers, table, width_factor, use_bias, name=name)(x)
        found[f"stage{stage}"] = x
        if transition is not None:
            name = f"stage{stage}_transition"
            x = Mixed(layers, transition, width_factor, use_bias, name=name)(x)
    return found
