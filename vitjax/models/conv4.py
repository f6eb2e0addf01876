"""Conv4, the network of four convolutions on which few-shot methods are compared."""

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import OneOf, PositiveFloat
from vitjax.models.limits import Classes, Groups, Halvings, OptionalWidth, Width
from vitjax.models.protocol import FeatureInfo, Model, Shapeless, numbers_in
from vitjax.models.registry import MODELS
from vitjax.nn.activations import ACTIVATIONS, Activation
from vitjax.nn.context import CONTEXT, context_parameters
from vitjax.nn.conv import Conv
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.dtypes import Dtype
from vitjax.nn.head import HeadPooling, pooled_head
from vitjax.nn.initializers import uniform
from vitjax.nn.inputs import ImageError, check_images
from vitjax.nn.norm import Norm, check_groups, normalization

HEAD_INITS = {
    "xavier": nn.initializers.xavier_uniform(),
    "normal": nn.initializers.normal(1.0),
    "zeros": nn.initializers.zeros,
}
KERNEL = 3

_BLOCK = re.compile(r"(?:^|/)(?:conv|norm)(\d+)/")
_CONTEXT = re.compile(r"(^|/)(film/|context$)")


class Conv4(Model):
    """Blocks of 3 x 3 convolution, normalisation, activation and downsampling, then a linear layer.

    Vinyals et al. 2016, arXiv:1606.04080, Sec. 4.1, and Finn et al. 2017 (MAML), arXiv:1703.03400,
    Sec. 5.2. Details that the papers leave open are those of MAML's published code, cbfinn/maml:
    biases in the convolutions, epsilon 1e-3, Xavier-uniform kernels, TensorFlow's padding. Its
    batch normalisation learns a shift only; this one has a scale too, as in later code and in
    published parameter counts.

    Max pooling is computed before the activation, which then has a quarter of the work. For
    monotonic activations (all but GELU) that is the same function as pooling after it.

    Sows ``block1``, ``block2``, ..., ``pooled`` and ``logits``.

    Attributes:
        num_classes: number of logits; 0 or None for no head: the model then returns features.
        filters: channels of every convolution.
        depth: number of blocks.
        downsample: ``"pool"`` (2 x 2 max pooling) or ``"stride"`` (of the convolution).
        stride_padding: of strided convolutions, ``"tensorflow"`` (see `pad_for_stride`) or
            ``"pytorch"`` (a zero on each side), as in learn2learn's network.
        activation: ``"relu"``, or the smooth ``"tanh"``, ``"softplus"`` or ``"gelu"``.
        pooling: the input of the head: ``"flatten"`` (rows, columns, channels) or ``"mean"`` over
            the pixels.
        norm: ``"batch"``, ``"group"``, ``"layer"`` (over pixels and channels) or ``"none"``.
        norm_groups: groups of group normalisation.
        norm_epsilon: added to the variance. PyTorch's networks have 1e-5.
        head_init: ``"xavier"`` (uniform), ``"normal"`` (standard deviation 1, as in cbfinn/maml for
            Omniglot) or ``"zeros"``.
        num_context: number of context parameters (arXiv:1810.03642, Sec. 3), 0 for none. A linear
            layer maps the parameter ``context`` to a scale and a shift of each channel of the block
            ``context_block``, after its pooling and before its activation.
        context_block: number of that block, from 1.
        conv_impl: how convolutions are computed, see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("conv1/kernel",)
    context_name: ClassVar[str | None] = CONTEXT
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        **dict.fromkeys(("norm_epsilon", "activation", "downsample"), Shapeless()),
        "norm_groups": Shapeless(("norm", "group")),
        "stride_padding": Shapeless(("downsample", "stride")),
    }
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)block\d+$",)
    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = {"depth": _BLOCK}

    num_classes: Classes | None = 5
    filters: Width = 32
    depth: Halvings = 4
    downsample: Literal["pool", "stride"] = "pool"
    stride_padding: Literal["tensorflow", "pytorch"] = "tensorflow"
    activation: Activation = "relu"
    pooling: HeadPooling = "flatten"
    norm: Norm = "batch"
    norm_groups: Groups = 8
    norm_epsilon: PositiveFloat = 1e-3
    head_init: Annotated[str, OneOf(HEAD_INITS)] = "xavier"
    num_context: OptionalWidth = 0
    context_block: Halvings = 3
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.norm_groups, [self.filters])
        if self.num_context and not 1 <= self.context_block <= self.depth:
            raise ConfigError(
                f"context_block={self.context_block!r}: the blocks are 1 to {self.depth} (depth)"
            )

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, or without a head its input.

        Args:
            images: floats. With ``pooling="flatten"`` of the size that the parameters were
                initialised with.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        *_, x = self.features(images, train).values()
        return self._logits(x)

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The map of each block."""
        return tuple(FeatureInfo(f"block{i}", 2**i, self.filters) for i in self._blocks())

    def layer_key(self, name: str) -> tuple[int, ...]:
        """Each block, the context with the block that it modulates, then the head."""
        if _CONTEXT.search(name):
            return 1, self.context_block
        if block := numbers_in(_BLOCK, name):
            return 1, *block
        return (2,)

    def _blocks(self) -> range:
        return range(1, self.depth + 1)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Array]:
        """The maps ``block1``, ``block2``, ..., from fine to coarse.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        check_images(images)
        self._check_size(images)
        dtypes = self.dtypes
        norm = normalization(
            self.norm,
            train=train,
            epsilon=self.norm_epsilon,
            groups=self.norm_groups,
            axis_name=self.axis_name,
            **dtypes,
        )
        x, found = images, {}
        strided = self.downsample == "stride"
        pads = strided and self.stride_padding == "tensorflow"
        for i in self._blocks():
            conv = Conv(
                self.filters,
                (KERNEL, KERNEL),
                (2, 2) if strided else (1, 1),
                padding="same" if pads else None,
                use_bias=True,
                conv_impl=self.conv_impl,
                kernel_init=nn.initializers.xavier_uniform(),
                name=f"conv{i}",
                **dtypes,
            )
            x, bias = conv(x, defer_bias=True)
            x = norm(name=f"norm{i}")(x, pool=1 if strided else 2, offset=bias)
            if self.num_context and i == self.context_block:
                x = self._in_context(x)
            x = ACTIVATIONS[self.activation](x)
            self.sow("intermediates", f"block{i}", x)
            found[f"block{i}"] = x
        return found

    @nn.compact
    def _logits(self, x: Array) -> Array:
        """Pools the last map ``x`` and applies the head."""
        return pooled_head(
            self,
            x,
            self.num_classes,
            self.pooling,
            self.param_dtype,
            kernel_init=HEAD_INITS[self.head_init],
        )

    def _in_context(self, x: Array) -> Array:
        """Scales and shifts each channel by a linear function of ``context``.

        At a context of zeros only the bias acts. It is initialised uniformly within
        1 / sqrt(num_context), and the kernel within sqrt(3 / num_context), as in lmzintgraf/cavia.
        As there, 1 is not added to the scale: an episode starts from the learned bias.
        """
        context = context_parameters(self, self.num_context, self.param_dtype)
        film = nn.Dense(
            2 * self.filters,
            kernel_init=uniform((3 / self.num_context) ** 0.5),
            bias_init=uniform(self.num_context**-0.5),
            **self.dtypes,
            name="film",
        )(context)
        return x * film[: self.filters] + film[self.filters :]

    def _check_size(self, images: Array) -> None:
        least = 2**self.depth
        height, width = images.shape[1:3]
        if self.downsample == "pool" and min(height, width) < least:
            raise ImageError(
                f"images of {height} x {width} pixels (height x width) cannot be halved"
                f" {self.depth} times (depth); sides must be at least {least}, or set"
                " downsample='stride'"
            )


_MAML: dict[str, Any] = {"paper": "Finn et al. 2017 (MAML), arXiv:1703.03400", "year": 2017}
_MATCHING: dict[str, Any] = {
    "paper": "Vinyals et al. 2016 (Matching Networks), arXiv:1606.04080",
    "year": 2016,
}

MODELS.register("conv4", image_size=84, **_MAML)(Conv4)
# 28 x 28 pixels of one channel become 2 x 2 x 64 by strides, and 1 x 1 x 64 by pooling.
MODELS.register("conv4_omniglot", image_size=28, input_shape=(28, 28, 1), **_MAML)(
    functools.partial(Conv4, filters=64, downsample="stride", pooling="mean", head_init="normal")
)
MODELS.register("conv4_omniglot_pooled", image_size=28, input_shape=(28, 28, 1), **_MATCHING)(
    functools.partial(Conv4, filters=64, pooling="mean", head_init="normal")
)
