"""Residual networks, post-activation and pre-activation, for large and for small images."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import PositiveFloat
from vitjax.models.limits import Classes, Factor, Groups, StageSizes, Width
from vitjax.models.protocol import FeatureInfo, Model, Shapeless, numbers_in
from vitjax.models.registry import CIFAR10, IMAGENET, MODELS, SYMMETRIC
from vitjax.nn.conv import Conv
from vitjax.nn.convolution import ConvImpl
from vitjax.nn.dtypes import Dtype, as_dtype, output_dtype
from vitjax.nn.initializers import he_normal, pytorch_bias, pytorch_kernel
from vitjax.nn.inputs import check_images
from vitjax.nn.norm import check_groups, normalization
from vitjax.nn.residual import Layer, PreactivationBlock, ResidualBlock, Shortcut, Strided

BlockKind = Literal["basic", "bottleneck"]
Stem = Literal["imagenet", "cifar"]

# A bottleneck's output has four times the channels of its inner layers (arXiv:1512.03385, Table 1).
EXPANSION = 4

_BLOCK = re.compile(r"(?:^|/)stage(\d+)_block(\d+)/")
_STEM = re.compile(r"(^|/)stem_\w+/")


def residual_layer_key(name: str) -> tuple[int, ...]:
    """`Model.layer_key` for parameters called ``stem_...`` and ``stage1_block1/...``."""
    if block := numbers_in(_BLOCK, name):
        return 1, *block
    return (0,) if _STEM.search(name) else (2,)


class ResNet(Model):
    """Residual network: stages that halve the image and double the channels.

    Sows the maps of `features`, ``pooled`` and ``logits``, and each block's ``output``.

    Attributes:
        stage_sizes: number of blocks of each stage.
        block: ``"basic"`` (two 3 x 3) or ``"bottleneck"`` (1 x 1, 3 x 3, 1 x 1).
        preactivation: `PreactivationBlock` instead of `ResidualBlock`.
        num_classes: number of logits; 0 or None for no head: the model then returns the pooled
            features.
        width: inner channels of the first stage; each later stage has twice as many.
        stem_width: channels of the stem; None for ``width``.
        bottleneck_factor: multiplies the inner channels of bottlenecks (the ImageNet networks of
            arXiv:1605.07146).
        stem: ``"imagenet"`` (7 x 7 of stride 2, then 3 x 3 max pooling of stride 2) or ``"cifar"``
            (3 x 3 of stride 1).
        strided: the convolution of a bottleneck that halves the map: ``"3x3"``, as in torchvision
            ("v1.5"), or the first, ``"1x1"``, as in arXiv:1512.03385 and Keras.
        zero_pool: the stem's max pooling pads with zeros, as in BiT, instead of -inf.
        shortcut: where the shape changes, ``"projection"`` (1 x 1 convolution: option B of
            arXiv:1512.03385) or ``"pad"`` (no parameters: option A); ``"none"`` leaves out the
            shortcuts of all blocks (the paper's plain networks, Sec. 3.3).
        norm: ``"batch"`` or ``"group"``.
        norm_groups: groups of group normalisation.
        standardize_epsilon: weight standardisation in all convolutions; None for none. See `Conv`.
        zero_init_residual: initialise every residual branch to zero (arXiv:1706.02677, Sec. 5.1).
        conv_init: ``"he"`` (normal, by the outputs: arXiv:1502.01852, Eq. 14) or ``"lecun"``.
        head_init: ``"uniform"`` (within 1 / sqrt(inputs), as PyTorch's linear layer) or
            ``"zeros"``.
        conv_impl: how convolutions are computed, see `vitjax.nn.convolution.convolve`.
        axis_name: the mapped axis over which batch statistics are averaged; None for none.
        dtype: of the computation, as a dtype or its name.
        param_dtype: of the parameters, likewise.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem_conv/kernel",)
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        "standardize_epsilon": Shapeless(),
        "norm_groups": Shapeless(("norm", "group")),
        "zero_pool": Shapeless(("stem", "imagenet")),
        "strided": Shapeless(("block", "bottleneck")),
        "shortcut": Shapeless(shown="projection", exact=True),
    }
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem|output|stage\d+)$",)
    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = {"stage_sizes": _BLOCK}

    stage_sizes: StageSizes
    block: BlockKind = "bottleneck"
    preactivation: bool = False
    num_classes: Classes | None = 1000
    width: Width = 64
    stem_width: Width | None = None
    bottleneck_factor: Factor = 1
    stem: Stem = "imagenet"
    strided: Strided = "3x3"
    zero_pool: bool = False
    shortcut: Shortcut = "projection"
    norm: Literal["batch", "group"] = "batch"
    norm_groups: Groups = 32
    standardize_epsilon: PositiveFloat | None = None
    zero_init_residual: bool = False
    conv_init: Literal["he", "lecun"] = "he"
    head_init: Literal["uniform", "zeros"] = "uniform"
    conv_impl: ConvImpl = "auto"
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        inner, stem = self.width * self.bottleneck_factor, self.stem_width or self.width
        check_groups(self.norm, self.norm_groups, (stem, self.width, inner))
        if self.zero_init_residual and self.shortcut == "none":
            raise ConfigError(
                "zero_init_residual: with shortcut='none' every output would be zero; leave one out"
            )
        if self.zero_init_residual and self.preactivation and self.standardize_epsilon is not None:
            raise ConfigError(
                "zero_init_residual: under weight standardisation a kernel of zeros has gradients"
                " without bound; leave it out, or standardize_epsilon, or preactivation"
            )

    def effective_fields(self) -> dict[str, Any]:
        """As `Model.effective_fields`."""
        fields = super().effective_fields()
        for initial in ("zero_init_residual", "conv_init", "head_init"):
            del fields[initial]
        grouped = {} if self.norm == "group" else {"norm_groups": None}
        stem = None if self.stem_width == self.width else self.stem_width
        return {**fields, "stem_width": stem, **grouped}

    def setup(self):
        """Makes the head, which `__call__` has beyond `features`."""
        if self.num_classes:
            kernel_init = bias_init = nn.initializers.zeros
            if self.head_init == "uniform":
                kernel_init = pytorch_kernel
                bias_init = pytorch_bias(self._out_width(len(self.stage_sizes) - 1))
            self.head = nn.Dense(
                self.num_classes,
                kernel_init=kernel_init,
                bias_init=bias_init,
                dtype=output_dtype(self.param_dtype),
                param_dtype=as_dtype(self.param_dtype),
            )

    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, or without a head the pooled features.

        Args:
            images: floats.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable.

        Returns:
            (batch, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank or dtype.
        """
        *_, x = self.features(images, train).values()
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        self.sow("intermediates", "pooled", x)
        if self.num_classes:
            x = self.head(x)
            self.sow("intermediates", "logits", x)
        return x

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The maps of the stem and of each stage."""
        stem = self.stem_width or self.width
        imagenet = self.stem == "imagenet"
        stride = 4 if imagenet else 1
        maps = [FeatureInfo("unpooled", 2, stem)] if imagenet else []
        maps.append(FeatureInfo("stem", stride, stem))
        for stage in range(len(self.stage_sizes)):
            channels = self._out_width(stage)
            maps.append(FeatureInfo(f"stage{stage + 1}", stride * 2**stage, channels))
        return tuple(maps)

    def layer_key(self, name: str) -> tuple[int, ...]:
        """The stem, then each block, then the final normalisation and the head."""
        return residual_layer_key(name)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> dict[str, Array]:
        """The maps ``stem``, ``stage1``, ``stage2``, ..., from fine to coarse.

        A stem with max pooling gives ``unpooled`` first, the map before the pooling. The last map
        of a pre-activation network is taken after the final normalisation and ReLU.

        Args:
            images: floats.
            train: as in `__call__`.

        Raises:
            ImageError: images of the wrong rank or dtype.
        """
        check_images(images)
        conv, norm = self._conv(), self._norm(train)
        imagenet = self.stem == "imagenet"
        stem_width = self.stem_width or self.width
        size, stride = (7, 2) if imagenet else (3, 1)
        x = conv(stem_width, (size, size), (stride, stride), name="stem_conv")(images)
        if not self.preactivation:
            x = jax.nn.relu(norm(name="stem_norm")(x))
        found = {}
        if imagenet:
            found["unpooled"] = x
            # A separate step, as the conversion to ONNX supports pooling without padding only.
            edge = 0 if self.zero_pool else -jnp.inf
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=edge)
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="VALID")
        found["stem"] = x

        bottleneck = self.block == "bottleneck"
        block = PreactivationBlock if self.preactivation else ResidualBlock
        for stage, blocks in enumerate(self.stage_sizes):
            inner = self.width * 2**stage * (self.bottleneck_factor if bottleneck else 1)
            for i in range(blocks):
                x = block(
                    features=self._out_width(stage),
                    inner=inner,
                    stride=2 if stage > 0 and i == 0 else 1,
                    bottleneck=bottleneck,
                    shortcut=self.shortcut,
                    zero_init=self.zero_init_residual,
                    conv=conv,
                    norm=norm,
                    strided=self.strided,
                    name=f"stage{stage + 1}_block{i + 1}",
                )(x)
            if self.preactivation and stage + 1 == len(self.stage_sizes):
                x = jax.nn.relu(norm(name="final_norm")(x))
            found[f"stage{stage + 1}"] = x
        for name, value in found.items():
            self.sow("intermediates", name, value)
        return found

    def _out_width(self, stage: int) -> int:
        return self.width * 2**stage * (EXPANSION if self.block == "bottleneck" else 1)

    def _conv(self) -> Layer:
        return functools.partial(
            Conv,
            standardize_epsilon=self.standardize_epsilon,
            kernel_init=he_normal if self.conv_init == "he" else nn.initializers.lecun_normal(),
            conv_impl=self.conv_impl,
            **self.dtypes,
        )

    def _norm(self, train: bool) -> Layer:
        return normalization(
            self.norm,
            train=train,
            epsilon=1e-5,
            groups=self.norm_groups,
            axis_name=self.axis_name,
            **self.dtypes,
        )


_V1 = {"paper": "He et al. 2016, arXiv:1512.03385", "year": 2016}
_V2 = {"paper": "He et al. 2016 (identity mappings), arXiv:1603.05027", "year": 2016}
_WIDE = {"paper": "Zagoruyko and Komodakis 2016, arXiv:1605.07146", "year": 2016}
_BIT = {"paper": "Kolesnikov et al. 2020 (Big Transfer), arXiv:1912.11370", "year": 2020}

# Depth to blocks per stage: arXiv:1512.03385, Table 1, and arXiv:1603.05027, App. A for 200.
_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


# Fields that a name decides, also by a default: weights of another value do not fit the name.
_DECIDED = (
    "block",
    "preactivation",
    "width",
    "stem_width",
    "bottleneck_factor",
    "stem",
    "zero_pool",
    "shortcut",
    "norm",
    "standardize_epsilon",
)
# Top-1 of torchvision's IMAGENET1K_V1 weights.
_ACCURACY = {
    "resnet18": 69.758,
    "resnet34": 73.314,
    "resnet50": 76.130,
    "resnet101": 77.374,
    "resnet152": 78.312,
    "wrn50_2": 78.468,
    "wrn101_2": 78.848,
}
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(ResNet) if f.name in _DECIDED}


def _register(name: str, facts: Mapping[str, Any], **fields: Any) -> None:
    small = fields.get("stem") == "cifar"
    about: dict[str, Any] = (
        {"image_size": 32, **CIFAR10} if small else {"image_size": 224, **IMAGENET}
    )
    if name in _ACCURACY:
        about |= {"accuracy": _ACCURACY[name], "accuracy_source": "torchvision IMAGENET1K_V1"}
    constructor = functools.partial(ResNet, **{**_DEFAULTS, **fields})
    MODELS.register(name, **{**about, **facts})(constructor)


for _depth, _sizes in {**_BASIC, **_BOTTLENECK}.items():
    _block = "basic" if _depth in _BASIC else "bottleneck"
    _register(f"resnet{_depth}", _V1, stage_sizes=_sizes, block=_block)
    _register(f"resnet{_depth}_v2", _V2, stage_sizes=_sizes, block=_block, preactivation=True)

for _depth, _sizes in _BASIC.items():
    # arXiv:1512.03385, Sec. 4.1.
    _register(f"plain{_depth}", _V1, stage_sizes=_sizes, block="basic", shortcut="none")

for _name, _depth, _shortcut in (
    *(("resnet", depth, "pad") for depth in (20, 32, 44, 56, 110)),
    *(("plain", depth, "none") for depth in (20, 56, 110)),
):
    # arXiv:1512.03385, Sec. 4.2: 6n + 2 layers, 16, 32 and 64 channels, shortcuts of option A.
    _register(
        f"{_name}{_depth}",
        _V1,
        stage_sizes=((_depth - 2) // 6,) * 3,
        block="basic",
        width=16,
        stem="cifar",
        shortcut=_shortcut,
        num_classes=10,
    )

for _depth, _factor in ((28, 10), (16, 8), (40, 2)):
    # arXiv:1605.07146, Table 1: 6n + 4 layers, 16 k, 32 k and 64 k channels after a stem of 16.
    _register(
        f"wrn{_depth}_{_factor}",
        _WIDE,
        stage_sizes=((_depth - 4) // 6,) * 3,
        block="basic",
        preactivation=True,
        width=16 * _factor,
        stem_width=16,
        stem="cifar",
        num_classes=10,
    )

for _depth in (50, 101):
    _register(f"wrn{_depth}_2", _WIDE, stage_sizes=_BOTTLENECK[_depth], bottleneck_factor=2)

for _depth, _factor in ((50, 1), (50, 3), (101, 1), (101, 3), (152, 2), (152, 4)):
    _register(
        f"bit_r{_depth}x{_factor}",
        {**_BIT, **SYMMETRIC},
        stage_sizes=_BOTTLENECK[_depth],
        preactivation=True,
        width=64 * _factor,
        norm="group",
        standardize_epsilon=1e-10,
        zero_pool=True,
        conv_init="lecun",
        head_init="zeros",
    )
