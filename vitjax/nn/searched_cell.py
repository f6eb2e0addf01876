"""Cells that a search of architectures found: sums of pairs of operations, given as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.drop import drop_path
from vitjax.nn.residual import add
from vitjax.nn.window_pooling import average_pool, max_pool

# The states that a cell starts with: the map before the last, and the last map.
PREVIOUS, LAST = 0, 1


class Separable(NamedTuple):
    """Two separable convolutions, see `SeparableConvs`.

    Attributes:
        state: what it reads.
        kernel: side of the depthwise kernels in pixels.
    """

    state: int
    kernel: int


class Pool(NamedTuple):
    """Pooling of 3 x 3 windows.

    Attributes:
        state: what it reads.
        kind: what is taken of each window.
    """

    state: int
    kind: Literal["max", "average"]


class Identity(NamedTuple):
    """The state itself.

    Attributes:
        state: what it reads.
    """

    state: int


Operation = Separable | Pool | Identity


class Genotype(NamedTuple):
    """A searched cell.

    States are numbered: `PREVIOUS`, `LAST`, and from 2 on the sums of the pairs.

    Attributes:
        pairs: of operations, whose outputs are summed.
        outputs: the states that are concatenated.
    """

    pairs: tuple[tuple[Operation, Operation], ...]
    outputs: tuple[int, ...]


class SeparableConvs(nn.Module):
    """Twice: ReLU, a depthwise and a 1 x 1 convolution, normalisation.

    Zoph et al. 2018, arXiv:1707.07012, App. A.4.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        kernel: side of the depthwise kernels in pixels.
        strides: of the first depthwise convolution, in pixels.
    """

    layers: Layers
    features: int
    kernel: int
    strides: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies all layers."""
        conv, norm = self.layers.conv, self.layers.norm
        for i, strides in enumerate((self.strides, 1), start=1):
            x, width = self.layers.activate(x), x.shape[-1]
            x = conv(width, self.kernel, strides, groups=width, name=f"depthwise{i}")(x)
            x = conv(self.features, name=f"pointwise{i}")(x)
            x = norm(name=f"norm{i}")(x)
        return x


class FactorizedReduction(nn.Module):
    """ReLU, two 1 x 1 convolutions of stride 2 side by side, and normalisation.

    The second convolution reads the map shifted by one pixel in both directions, with zeros at the
    end: Zoph et al. 2018, arXiv:1707.07012, as in TensorFlow's code.

    Attributes:
        layers: what the network's layers share.
        features: output channels, half of them of each convolution; at least 2.
    """

    layers: Layers
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch half_height half_width features"]:
        """Halves the map; odd sides are rounded up."""
        x = self.layers.activate(x)
        shifted = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        half = self.features // 2
        parts = [
            self.layers.conv(half, name="conv1")(x[:, ::2, ::2]),
            self.layers.conv(self.features - half, name="conv2")(shifted[:, ::2, ::2]),
        ]
        return self.layers.norm(name="norm")(jnp.concatenate(parts, axis=-1))


class SearchedCell(nn.Module):
    """The cell of a genotype.

    Zoph et al. 2018, arXiv:1707.07012, Sec. 3 and Fig. 2. A 1 x 1 convolution brings the last map
    to the channels of the cell, and ``previous`` says what becomes of the one before it. Strides
    are those of the operations that read these two. An operation other than a convolution whose
    channels or stride ask for it has a 1 x 1 convolution of its own. The operations of pair i are
    ``pair<i>_left`` and ``pair<i>_right``. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        genotype: the operations.
        features: channels of each state.
        strides: of the cell, in pixels.
        previous: how the map before the last is brought to the size of the last: ``"project"`` by a
            1 x 1 convolution, ``"reduce"`` by a `FactorizedReduction` from twice the size;
            ``"keep"`` leaves it as it is.
        count_padding: whether zeros around the map count in average pooling of stride 2.
        drop_path: rate of dropping the output of an operation for an example (App. A.5).
    """

    layers: Layers
    genotype: Genotype
    features: int
    strides: int = 1
    previous: Literal["project", "reduce", "keep"] = "project"
    count_padding: bool = False
    drop_path: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width in"],
        previous: Float[Array, "batch previous_height previous_width previous_in"],
    ) -> Float[Array, "batch new_height new_width out"]:
        """The map that follows.

        Args:
            x: the last map.
            previous: the map before it.
        """
        if self.previous == "project":
            previous = self._project(previous, "project_previous")
        elif self.previous == "reduce":
            reduction = FactorizedReduction(self.layers, self.features, name="reduce_previous")
            previous = reduction(previous)
        states = [previous, self._project(x, "project")]
        for i, (left, right) in enumerate(self.genotype.pairs, start=1):
            sides = (left, f"pair{i}_left"), (right, f"pair{i}_right")
            first, second = (self._apply(op, states[op.state], name) for op, name in sides)
            states.append(add(first, second))
        x = jnp.concatenate([states[i] for i in self.genotype.outputs], axis=-1)
        self.sow("intermediates", "output", x)
        return x

    def _project(self, x: Array, name: str, strides: int = 1) -> Array:
        """ReLU, a 1 x 1 convolution and normalisation."""
        conv = ConvNorm(self.layers, self.features, 1, strides, activate=False, name=name)
        return conv(self.layers.activate(x))

    def _apply(self, operation: Operation, x: Array, name: str) -> Array:
        """The output of an operation."""
        strides = self.strides if operation.state in (PREVIOUS, LAST) else 1
        fits = x.shape[-1] == self.features
        if isinstance(operation, Identity):
            return x if fits and strides == 1 else self._project(x, name, strides)
        if isinstance(operation, Separable):
            x = SeparableConvs(self.layers, self.features, operation.kernel, strides, name=name)(x)
        else:
            x = self._pool(operation, x, strides)
            if not fits:
                x = ConvNorm(self.layers, self.features, activate=False, name=name)(x)
        if self.layers.train and self.drop_path > 0:
            x = drop_path(x, self.drop_path, self.make_rng("dropout"))
        return x

    def _pool(self, operation: Pool, x: Array, strides: int) -> Array:
        if operation.kind == "max":
            return max_pool(x, 3, strides, "same")
        counted = self.count_padding and strides > 1
        return average_pool(x, 3, strides, "same", count_padding=counted)


def cell_maker(
    layers: Layers, number: int, drop_rate: float, **fields: Any
) -> Callable[..., SearchedCell]:
    """A constructor of the cells of a network, which is to be called in the order of their depth.

    Args:
        layers: as of `SearchedCell`.
        number: of the cells.
        drop_rate: ``drop_path`` of the last cell; it grows linearly with the depth.
        **fields: further ones of all cells.
    """
    depth = iter(range(1, number + 1))

    def cell(name: str, genotype: Genotype, features: int, **own: Any) -> SearchedCell:
        rate = drop_rate * next(depth) / number
        return SearchedCell(layers, genotype, features, drop_path=rate, name=name, **fields, **own)

    return cell


def searched_stem(
    layers: Layers,
    cell: Callable[..., SearchedCell],
    genotype: Genotype,
    widths: tuple[int, int],
    images: Array,
) -> tuple[Array, Array, Array]:
    """The convolution ``stem`` and two cells with strides, within a compact method.

    Zoph et al. 2018, arXiv:1707.07012, Fig. 2 (ImageNet).

    Args:
        layers: what the network's layers share.
        cell: as `cell_maker` returns it.
        genotype: of both cells, which have a quarter and a half of the second width.
        widths: channels of the convolution, and of the cells that follow, at least 4.
        images: floats.

    Returns:
        The maps of stride 2, 4 and 8.
    """
    first, width = widths
    conv = ConvNorm(layers, first, 3, 2, padding=0, activate=False, name="stem")
    x = conv(images)
    quarter = cell("stem_cell1", genotype, width // 4, strides=2, previous="keep")
    half = cell("stem_cell2", genotype, width // 2, strides=2, previous="reduce")
    y = quarter(x, x)
    return x, y, half(y, x)
