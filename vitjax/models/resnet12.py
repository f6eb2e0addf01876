"""ResNet-12, the residual network of few-shot learning."""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vitjax.core.validation import Rate
from vitjax.models.limits import Classes, Pixels, StageWidths
from vitjax.models.protocol import FeatureInfo, Model
from vitjax.models.registry import MODELS
from vitjax.models.resnet import residual_layer_key
from vitjax.nn.conv import Conv
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.drop import drop_block, dropout
from vitjax.nn.dtypes import Dtype
from vitjax.nn.head import HeadPooling, pooled_head
from vitjax.nn.initializers import he_normal, uniform
from vitjax.nn.inputs import ImageError, check_images
from vitjax.nn.norm import normalization
from vitjax.nn.pooling import max_pool

# Of the leaky ReLU.
SLOPE = 0.1

# The first block that is followed by DropBlock; the others are followed by dropout.
FIRST_DROPBLOCK = 3


class Block(nn.Module):
    """Three convolutions with a 1 x 1 shortcut, then max pooling and a leaky ReLU.

    The parameters have the names of those of `vitjax.nn.residual.ResidualBlock`.

    Attributes:
        features: output channels.
        conv: constructor of a convolution.
        norm: constructor of a normalisation.
    """

    features: int
    conv: Callable[..., Any]
    norm: Callable[..., Any]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch half_height half_width features"]:
        """Applies the block."""
        y = x
        for i in (1, 2, 3):
            y = self.conv(self.features, (3, 3), name=f"conv{i}")(y)
            y = self.norm(name=f"norm{i}")(y)
            y = y if i == 3 else jax.nn.leaky_relu(y, SLOPE)
        x = self.conv(self.features, (1, 1), name="shortcut_conv")(x)
        x = self.norm(name="shortcut_norm")(x)
        return jax.nn.leaky_relu(max_pool(x + y, 2), SLOPE)


class ResNet12(Model):
    """Four residual blocks of three 3 x 3 convolutions, each of which halves the image.

    Oreshkin et al. 2018 (TADAM), arXiv:1805.10123, with the widths, DropBlock and further
    details of Lee et al. 2019 (MetaOptNet), arXiv:1904.03758, Sec. 4.1, and kjunelee/MetaOptNet:
    leaky ReLU of slope 0.1, no biases, PyTorch's batch normalisation, convolutions He-normal by
    their outputs. The head, which MetaOptNet does not have, is initialised as PyTorch's linear
    layer.

    Max pooling is computed before a block's last activation, which gives the same numbers faster.

    Sows ``stage1`` to ``stage4``, ``pooled`` and ``logits``.

    Attributes:
        num_classes: number of logits; 0 or None for no head: the model then returns features.
        widths: channels of each block; TADAM's are 64, 128, 256 and 512.
        pooling: ``"mean"`` over the pixels, or ``"flatten"``, as in MetaOptNet.
        drop_rate: fraction of the activations after each block that are zeroed in training: by
            dropout after the first two blocks, and by DropBlock after the others. It is constant;
            MetaOptNet increases it linearly over the first 40,000 steps.
        dropblock_size: side of DropBlock's squares in pixels, at most that of the map.
        conv_impl: how convolutions are computed, see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    image_kernels: ClassVar[tuple[str, ...]] = (
        "stage1_block1/conv1/kernel",
        "stage1_block1/shortcut_conv/kernel",
    )
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)stage\d+$",)

    num_classes: Classes | None = 5
    widths: StageWidths = (64, 160, 320, 640)
    pooling: HeadPooling = "mean"
    drop_rate: Rate = 0.0
    dropblock_size: Pixels = 5
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, or without a head its input.

        Args:
            images: floats. With ``pooling="flatten"`` of the size that the parameters were
                initialised with.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable; drop activations, drawing from the RNG collection ``"dropout"``.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        *_, x = self.features(images, train).values()
        return self._logits(x)

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The map of each block."""
        stages = enumerate(self.widths, start=1)
        return tuple(FeatureInfo(f"stage{i}", 2**i, channels) for i, channels in stages)

    def layer_key(self, name: str) -> tuple[int, ...]:
        """Each block, then the head."""
        return residual_layer_key(name)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Array]:
        """The maps ``stage1``, ``stage2``, ..., from fine to coarse.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        check_images(images)
        least = 2 ** len(self.widths)
        height, width = images.shape[1:3]
        if min(height, width) < least:
            raise ImageError(
                f"images of {height} x {width} pixels (height x width) cannot be halved"
                f" {len(self.widths)} times; sides must be at least {least}"
            )
        dtypes = self.dtypes
        block = functools.partial(
            Block,
            conv=functools.partial(Conv, kernel_init=he_normal, conv_impl=self.conv_impl, **dtypes),
            norm=normalization(
                "batch", train=train, epsilon=1e-5, axis_name=self.axis_name, **dtypes
            ),
        )
        key = self.make_rng("dropout") if train and self.drop_rate else None
        x, found = images, {}
        for i, features in enumerate(self.widths, start=1):
            x = block(features, name=f"stage{i}_block1")(x)
            if key is not None:
                x = self._drop(x, i, jax.random.fold_in(key, i))
            self.sow("intermediates", f"stage{i}", x)
            found[f"stage{i}"] = x
        return found

    @nn.compact
    def _logits(self, x: Array) -> Array:
        """Pools the last map ``x`` and applies the head."""
        inputs = math.prod(x.shape[1:] if self.pooling == "flatten" else x.shape[3:])
        limit = uniform(inputs**-0.5)
        return pooled_head(
            self,
            x,
            self.num_classes,
            self.pooling,
            self.param_dtype,
            kernel_init=limit,
            bias_init=limit,
        )

    def _drop(self, x: Array, block: int, key: PRNGKeyArray) -> Array:
        if block < FIRST_DROPBLOCK:
            return dropout(x, self.drop_rate, key)
        return drop_block(x, self.drop_rate, self.dropblock_size, key)


MODELS.register(
    "resnet12",
    image_size=84,
    paper="Lee et al. 2019 (MetaOptNet), arXiv:1904.03758",
    year=2019,
)(ResNet12)
