"""Residual blocks, post-activation and pre-activation."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.nn.fusion import computed_once

Layer = Callable[..., Any]
Strided = Literal["3x3", "1x1"]
Shortcut = Literal["projection", "pad", "none"]


def _plan(
    bottleneck: bool, inner: int, features: int, stride: int, strided: Strided
) -> list[tuple[int, int, int]]:
    """The convolutions of a block's branch as (features, kernel size, stride)."""
    if bottleneck:
        first, second = (stride, 1) if strided == "1x1" else (1, stride)
        return [(inner, 1, first), (inner, 3, second), (features, 1, 1)]
    return [(inner, 3, stride), (features, 3, 1)]


def pad_shortcut(
    x: Float[Array, "batch height width in"], features: int, stride: int
) -> Float[Array, "batch new_height new_width features"]:
    """The shortcut without parameters: every ``stride``-th pixel, and zeros as further channels.

    Option A of arXiv:1512.03385, Sec. 3.3. Half of the new channels come before the old ones and
    half after them.
    """
    new = features - x.shape[-1]
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


@computed_once
def add(x: Any, y: Any) -> Any:
    """``x + y``, the end of a residual block; see `computed_once`."""
    return x + y


@computed_once
def add_and_rectify(x: Any, y: Any) -> Any:
    """ReLU of ``x + y``, the end of a residual block; see `computed_once`."""
    return jax.nn.relu(x + y)


class _Block(nn.Module):
    """The fields of a residual block.

    Attributes:
        features: output channels.
        inner: channels of the inner convolutions.
        stride: of the block, in pixels.
        bottleneck: three convolutions (1, 3, 1) in place of two (3, 3).
        shortcut: ``"projection"`` or ``"pad"``, used where the shape changes; ``"none"`` for
            no shortcut in any block.
        zero_init: start the last normalisation's scale, and so the branch, at zero.
        conv: constructor of a convolution.
        norm: constructor of a normalisation.
        strided: the convolution of a bottleneck that has the stride.
    """

    features: int
    inner: int
    stride: int
    bottleneck: bool
    shortcut: Shortcut
    zero_init: bool
    conv: Layer
    norm: Layer
    strided: Strided = "3x3"


class ResidualBlock(_Block):
    """Convolutions and normalisations beside a shortcut, with a ReLU after the sum.

    He et al. 2016, arXiv:1512.03385, Fig. 2 (basic) and Fig. 5 (bottleneck). Without a shortcut the
    last ReLU follows the last normalisation. Sows ``output``.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        plan = _plan(self.bottleneck, self.inner, self.features, self.stride, self.strided)
        y = x
        for i, (features, size, stride) in enumerate(plan, start=1):
            last = i == len(plan)
            y = self.conv(features, (size, size), (stride, stride), name=f"conv{i}")(y)
            init = nn.initializers.zeros if last and self.zero_init else nn.initializers.ones
            y = self.norm(scale_init=init, name=f"norm{i}")(y)
            y = y if last else jax.nn.relu(y)
        if self.shortcut != "none" and (self.stride != 1 or x.shape[-1] != self.features):
            if self.shortcut == "pad":
                x = pad_shortcut(x, self.features, self.stride)
            else:
                strides = (self.stride, self.stride)
                x = self.conv(self.features, (1, 1), strides, name="shortcut_conv")(x)
                x = self.norm(name="shortcut_norm")(x)
        x = jax.nn.relu(y) if self.shortcut == "none" else add_and_rectify(x, y)
        self.sow("intermediates", "output", x)
        return x


class PreactivationBlock(_Block):
    """Normalisations and ReLUs before the convolutions, and none after the sum.

    He et al. 2016, arXiv:1603.05027, Fig. 4(e). Where the shape changes, the shortcut starts after
    the first ReLU. Sows ``output``. Here ``zero_init`` initialises the last convolution to zero, as
    no normalisation follows it.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width features"]:
        """Applies the block."""
        plan = _plan(self.bottleneck, self.inner, self.features, self.stride, self.strided)
        y = x
        for i, (features, size, stride) in enumerate(plan, start=1):
            y = jax.nn.relu(self.norm(name=f"norm{i}")(y))
            changes = self.stride != 1 or x.shape[-1] != self.features
            if i == 1 and changes and self.shortcut != "none":
                if self.shortcut == "pad":
                    x = pad_shortcut(y, self.features, self.stride)
                else:
                    strides = (self.stride, self.stride)
                    x = self.conv(self.features, (1, 1), strides, name="shortcut_conv")(y)
            zero = self.zero_init and i == len(plan)
            init = {"kernel_init": nn.initializers.zeros} if zero else {}
            y = self.conv(features, (size, size), (stride, stride), **init, name=f"conv{i}")(y)
        x = y if self.shortcut == "none" else add(x, y)
        self.sow("intermediates", "output", x)
        return x
