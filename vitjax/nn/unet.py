"""Layers of U-Net and its family: blocks, upsampling, attention gates, borders."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.inputs import ImageError

UpKind = Literal["transpose", "resize", "nearest"]
KERNEL = 3
# What the convolutions of a block, or one bilinear doubling, take from a side in pixels where
# nothing is padded.
BLOCK_LOSS = 2 * (KERNEL - 1)
DOUBLE_LOSS = 2

# Ronneberger et al. 2015, arXiv:1505.04597, Sec. 3: deviation sqrt(2 / N), N the incoming nodes of
# a neuron. Where each output pixel of a 2 x 2 kernel sees one input pixel, that is the channels.
HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
HE_PER_PIXEL = nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=(0, 1))

Layer = Callable[..., Any]


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each followed by its normalisation and a ReLU.

    Ronneberger et al. 2015, arXiv:1505.04597, Fig. 1; normalisation came later. Sows ``output``.

    Attributes:
        features: output channels of both.
        conv: constructor of a convolution.
        norm: constructor of a normalisation.
    """

    features: int
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        for i in (1, 2):
            x = self.conv(self.features, name=f"conv{i}")(x)
            x = jax.nn.relu(self.norm(name=f"norm{i}")(x))
        self.sow("intermediates", "output", x)
        return x


class Up(nn.Module):
    """Doubles both sides of a map; ``"transpose"`` and ``"resize"`` also change its channels.

    The transposed convolution of 2 x 2 and stride 2 (arXiv:1505.04597, Sec. 2, "up-convolution")
    makes four pixels of each without overlap, so it is one product of matrices. Resizing and a
    convolution (Odena et al. 2016, doi:10.23915/distill.00003) show no grid of such pixels.

    Attributes:
        features: output channels.
        up: see the class.
        valid: without padding; resizing leaves out the border that needs pixels from outside.
        conv: constructor of a 3 x 3 convolution.
        dtype: of the computation.
        param_dtype: of the parameters.
    """

    features: int
    up: UpKind
    valid: bool
    conv: Layer
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Doubles ``x``."""
        if self.up == "resize":
            resized: Array = self.conv(self.features, use_bias=True, name="conv")(
                double(x, self.valid)
            )
            return resized
        if self.up == "nearest":
            return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        batch, height, width, channels = x.shape
        shape = (2, 2, channels, self.features)
        kernel = self.param("kernel", HE_PER_PIXEL, shape, self.param_dtype).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        # Written out, as XLA's transposed convolution moves all pixels twice.
        pixels = x.astype(self.dtype).reshape(-1, channels)
        x = pixels @ kernel.transpose(2, 0, 1, 3).reshape(channels, 4 * self.features)
        x = x.reshape(batch, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, 2 * height, 2 * width, self.features)
        return x + bias.astype(self.dtype)


class AttentionGate(nn.Module):
    """Scales each pixel of a skip by an attention coefficient of it and of a coarser map.

    Oktay et al. 2018, arXiv:1804.03999, Eq. 1 and 2 and Fig. 2: additive attention on the grid of
    the coarser map, with half of the skip's channels; the coefficients are resized bilinearly. Sows
    ``map``, the resized coefficients.

    Attributes:
        valid: without padding; the border whose coefficients need pixels from outside is left out.
        conv: constructor of a convolution.
    """

    valid: bool
    conv: Layer

    @nn.compact
    def __call__(
        self,
        skip: Float[Array, "batch height width channels"],
        gate: Float[Array, "batch coarse_height coarse_width gate_channels"],
    ) -> Float[Array, "batch new_height new_width channels"]:
        """Scales the part of ``skip`` that covers the same area as ``gate``.

        Args:
            skip: at least twice as high and wide as ``gate``, with the same centre.
            gate: the coarser map.
        """
        inner = max(skip.shape[-1] // 2, 1)
        skip = center_crop(skip, 2 * gate.shape[1], 2 * gate.shape[2])
        pixel: Layer = functools.partial(self.conv, kernel_size=(1, 1), use_bias=True)
        skip_conv = self.conv(
            inner,
            kernel_size=(2, 2),
            strides=(2, 2),
            padding=0,
            use_bias=False,
            name="skip_conv",
        )
        both = jax.nn.relu(skip_conv(skip) + pixel(inner, name="gate_conv")(gate))
        coefficients = double(jax.nn.sigmoid(pixel(1, name="map_conv")(both)), self.valid)
        self.sow("intermediates", "map", coefficients)
        return center_crop(skip, *coefficients.shape[1:3]) * coefficients


def double(
    x: Float[Array, "batch height width channels"], valid: bool = False
) -> Float[Array, "batch new_height new_width channels"]:
    """Doubles both sides bilinearly, with half-pixel centres.

    Pixels outside of the map equal the nearest pixel of the border. ``valid`` leaves out the first
    and the last row and column, the only ones that depend on these.
    """
    for axis in (1, 2):
        before, after = (
            # By keyword, as the conversion to ONNX supports no other form.
            jnp.take(x, jnp.clip(jnp.arange(x.shape[axis]) + step, 0, x.shape[axis] - 1), axis=axis)
            for step in (-1, 1)
        )
        pair = jnp.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis + 1)
        shape = list(x.shape)
        shape[axis] *= 2
        x = pair.reshape(shape)
    return x[:, 1:-1, 1:-1] if valid else x


def center_crop(
    x: Float[Array, "batch height width channels"], height: int, width: int
) -> Float[Array, "batch {height} {width} channels"]:
    """The central ``height`` x ``width`` pixels; of an odd rest, the smaller half is at the start.

    Args:
        x: maps at least as large.
        height: rows in pixels.
        width: columns in pixels.
    """
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def zero_pad_to(
    x: Float[Array, "batch old_height old_width channels"], height: int, width: int
) -> Float[Array, "batch {height} {width} channels"]:
    """``x`` within zeros; of an odd number of new pixels, the smaller half is at the start.

    Args:
        x: maps at most as large.
        height: rows in pixels.
        width: columns in pixels.
    """
    new = (height - x.shape[1], width - x.shape[2])
    return jnp.pad(x, [(0, 0), *((count // 2, count - count // 2) for count in new), (0, 0)])


def reflect_to_multiple(
    images: Float[Array, "batch height width channels"], multiple: int
) -> Float[Array, "batch new_height new_width channels"]:
    """Mirrors images at their borders until both sides are multiples of ``multiple``.

    Half of the new pixels, rounded down, come before the old ones, so that `center_crop` removes
    them. Pixels of the border are not repeated. An image that is too small is mirrored several
    times; a side of one pixel is repeated.

    Raises:
        ImageError: images without pixels.
    """
    if 0 in images.shape[1:3]:
        raise ImageError(
            f"images of {images.shape[1]} x {images.shape[2]} pixels (height x width): each"
            " side must be at least 1"
        )
    pads = []
    for side in images.shape[1:3]:
        total = -side % multiple
        pads.append((total // 2, total - total // 2))
    return jnp.pad(images, [(0, 0), *pads, (0, 0)], mode="reflect")
