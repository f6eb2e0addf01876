"""Self-attention over the footprint of each pixel, pairwise and patchwise.

Zhao, Jia and Koltun 2020, arXiv:2004.13621, Sec. 3. Unlike in dot-product attention the weights are
vectors: each of their channels weighs some channels of the values. At borders the map is mirrored.
"""

from __future__ import annotations

import abc
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.conv_norm import Layers

# Coordinates of a pixel.
_COORDINATES = 2


def mirrored(
    x: Float[Array, "batch height width channels"], border: int
) -> Float[Array, "batch new_height new_width channels"]:
    """``x`` with borders of ``border`` pixels, mirrored at the outermost pixels.

    Raises:
        ValueError, TypeError: a side of at most ``border`` pixels.
    """
    # `jnp.pad` compares sides with the border, which those of an exported graph do not allow.
    for axis in (1, 2):
        last = x.shape[axis] - 1
        before = jax.lax.slice_in_dim(x, 1, border + 1, axis=axis)
        after = jax.lax.slice_in_dim(x, last - border, last, axis=axis)
        x = jnp.concatenate([jnp.flip(before, axis), x, jnp.flip(after, axis)], axis=axis)
    return x


def footprint(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch size height size width channels"]:
    """The neighbours of each pixel: its own place is at half of ``size``.

    Args:
        x: a map, with sides of more than ``size // 2`` pixels.
        size: side of the footprint in pixels, an odd number.
    """
    return _windows(_windows(mirrored(x, size // 2), size, 2), size, 1)


def _windows(x: Any, size: int, axis: int) -> Any:
    """The ``size`` shifted parts of ``x`` along an axis, before which they are a new axis.

    Copies of ``x`` in one sequence that is cut into pieces of one more than its length: each piece
    starts one further within ``x``. Slices, one for each shift, would be compiled and, above all,
    differentiated many times slower.
    """
    length = x.shape[axis]
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    x = jnp.broadcast_to(jnp.expand_dims(x, axis), (*before, size, length, *after))
    x = x.reshape(*before, size * length, *after)
    x = jnp.pad(x, [(0, size) if i == axis else (0, 0) for i in range(x.ndim)])
    x = x.reshape(*before, size, length + 1, *after)
    return jax.lax.slice_in_dim(x, 0, length - size + 1, axis=axis + 1)


def aggregate(
    values: Float[Array, "batch height width channels"],
    weights: Float[Array, "batch size height size width shared"],
) -> Float[Array, "batch height width channels"]:
    """The weighted sum of the values in the footprint of each pixel.

    Channel c is weighed by channel c modulo ``shared`` of the weights. A row of each footprint is
    in memory at a time, also for the derivative: no unfolded map is.

    Args:
        values: a map, with sides of more than half of the footprint's.
        weights: of the neighbours of each pixel, as `footprint` orders them. ``shared`` divides the
            channels.
    """
    (_, size, height, _, _, shared), dtype = weights.shape, values.dtype
    wide = jnp.promote_types(jnp.float32, dtype)
    parts = _windows(mirrored(values, size // 2), size, 2)
    parts = parts.reshape(*parts.shape[:-1], -1, shared)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def add_row(total: Any, row: Any) -> tuple[Any, None]:
        place, weight = row
        part = jax.lax.dynamic_slice_in_dim(parts, place, height, axis=1)
        of_row = jnp.einsum("bhjws,bhjwgs->bhwgs", weight, part, preferred_element_type=wide)
        return total + of_row, None

    rows = jnp.arange(size), jnp.moveaxis(weights.astype(dtype), 1, 0)
    empty = jnp.zeros((*values.shape[:3], values.shape[-1] // shared, shared), wide)
    total, _ = jax.lax.scan(add_row, empty, rows)
    return total.reshape(values.shape).astype(dtype)


def positions(rows: int, columns: int, dtype: Any) -> Float[Array, "1 rows columns 2"]:
    """The coordinates of each pixel, to the right and down, from -1 to 1 over the map.

    Args:
        rows: of the map, at least 2.
        columns: of the map, at least 2.
        dtype: of the coordinates.
    """
    down, right = (2 * jnp.arange(n) / (n - 1) - 1 for n in (rows, columns))
    shape = (rows, columns)
    x, y = jnp.broadcast_to(right[None], shape), jnp.broadcast_to(down[:, None], shape)
    return jnp.stack([x, y], axis=-1)[None].astype(dtype)


class LocalAttention(nn.Module):
    """Weighs the values in the footprint of each pixel by their relation to it.

    Attributes:
        layers: what the network's layers share.
        features: output channels.
        relation: channels that the weights are computed from.
        share: channels of the values that one channel of the weights weighs; it must divide
            ``features``.
        size: side of the footprint in pixels, an odd number.
    """

    layers: Layers
    features: int
    relation: int
    share: int = 8
    size: int = 7

    @abc.abstractmethod
    def weights(self, x: Array, queries: Array, keys: Array) -> Array:
        """The weights of all neighbours.

        Args:
            x: the map.
            queries: what each pixel asks with, of ``relation`` channels.
            keys: what its neighbours answer with, likewise.

        Returns:
            (batch, footprint, height, width, features / share).
        """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height width features"]:
        """Attends to the neighbours of each pixel.

        Args:
            x: a map, with sides of more than ``size // 2`` pixels.
        """
        queries, keys, values = (
            self.layers.conv(features, use_bias=True, name=name)(x)
            for name, features in (
                ("query", self.relation),
                ("key", self.relation),
                ("value", self.features),
            )
        )
        return aggregate(values, self.weights(x, queries, keys))

    def transformed(self, x: Array, hidden: int, out: int) -> Array:
        """Normalisation, ReLU and 1 x 1 convolution, twice: the mapping gamma of Sec. 3."""
        x = self.layers.activate(self.layers.norm(name="norm1")(x))
        x = self.layers.conv(hidden, name="conv1")(x)
        x = self.layers.activate(self.layers.norm(name="norm2")(x))
        return self.layers.conv(out, use_bias=True, name="conv2")(x)


class PairwiseAttention(LocalAttention):
    """Weights of each pair of pixels, by the difference of their features and positions.

    Zhao et al. 2020, arXiv:2004.13621, Sec. 3.1, with subtraction as the relation; a
    softmax over the footprint, as in the authors' code. The attributes are those of
    `LocalAttention`.
    """

    def weights(self, x: Array, queries: Array, keys: Array) -> Array:
        """As `LocalAttention.weights`."""
        rows, columns = x.shape[1:3]
        places = self.layers.conv(_COORDINATES, use_bias=True, name="position")(
            positions(rows, columns, x.dtype)
        )
        places = jnp.broadcast_to(places, (*x.shape[:3], _COORDINATES))
        queries, keys = (jnp.concatenate([each, places], axis=-1) for each in (queries, keys))
        relations = queries[:, None, :, None] - footprint(keys, self.size)
        # The layers are those of images: the neighbours are further rows and columns.
        shape, size = relations.shape[:-1], self.size
        relations = relations.reshape(x.shape[0], size * rows, size * columns, -1)
        scores = self.transformed(relations, self.relation, self.features // self.share)
        scores = scores.reshape(*shape, -1)
        wide = jnp.promote_types(jnp.float32, scores.dtype)
        return jax.nn.softmax(scores.astype(wide), axis=(1, 3))


class PatchwiseAttention(LocalAttention):
    """Weights by all features of the footprint at once, so that they may depend on where each is.

    Zhao et al. 2020, arXiv:2004.13621, Sec. 3.2, with concatenation as the relation. The
    weights are not normalised. The attributes are those of `LocalAttention`.
    """

    def weights(self, x: Array, queries: Array, keys: Array) -> Array:
        """As `LocalAttention.weights`."""
        size, shared = self.size, self.features // self.share
        patches = jnp.transpose(footprint(keys, size), (0, 2, 4, 5, 1, 3))
        patches = patches.reshape(*x.shape[:3], self.relation * size**2)
        relations = jnp.concatenate([queries, patches], axis=-1)
        weights = self.transformed(relations, shared, size**2 * shared)
        weights = weights.reshape(*x.shape[:3], shared, size, size)
        return jnp.transpose(weights, (0, 4, 1, 5, 2, 3))
