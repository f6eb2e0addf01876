"""Inception v3: factorised convolutions in inception blocks."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.conv_norm import Layers
from vitjax.nn.dtypes import output_dtype
from vitjax.nn.inception import Fork, Pool, Step, Table, conv, stages, unpadded_stem
from vitjax.nn.inputs import ImageError
from vitjax.nn.window_pooling import average_pool, max_pool

_AVERAGE = Pool("average")
_HALVE = Pool("max", 2, 0)
# Sides of the map that an auxiliary head reads: pooling and a convolution of 5 pixels need 17.
_SIDE = 17


def _a(projected: int) -> Table:
    """Fig. 5 of arXiv:1512.00567, with 5 x 5 in one branch as in TensorFlow's code."""
    return (
        (Step(64),),
        (Step(48), Step(64, 5)),
        (Step(64), Step(96, 3), Step(96, 3)),
        (_AVERAGE, Step(projected)),
    )


def _c(inner: int) -> Table:
    """Fig. 6: 7 x 7 convolutions as 1 x 7 and 7 x 1."""
    row, column = (1, 7), (7, 1)
    return (
        (Step(192),),
        (Step(inner), Step(inner, row), Step(192, column)),
        (
            Step(inner),
            Step(inner, column),
            Step(inner, row),
            Step(inner, column),
            Step(192, row),
        ),
        (_AVERAGE, Step(192)),
    )


# Fig. 7: filter banks that are expanded.
_WIDE = Fork((Step(384, (1, 3)), Step(384, (3, 1))))
_E: Table = (
    (Step(320),),
    (Step(384), _WIDE),
    (Step(448), Step(384, 3), _WIDE),
    (_AVERAGE, Step(192)),
)
# Fig. 10: pooling beside convolutions, both with a stride.
_B: Table = (
    (Step(384, 3, 2, 0),),
    (Step(64), Step(96, 3), Step(96, 3, 2, 0)),
    (_HALVE,),
)
_D: Table = (
    (Step(192), Step(320, 3, 2, 0)),
    (Step(192), Step(192, (1, 7)), Step(192, (7, 1)), Step(192, 3, 2, 0)),
    (_HALVE,),
)
_STAGES = (
    ((_a(32), _a(64), _a(64)), _B),
    ((_c(128), _c(160), _c(160), _c(192)), _D),
    ((_E, _E), None),
)


class InceptionV3(ConvNet):
    """Stages of inception blocks of three kinds, with an auxiliary head in training.

    Szegedy et al. 2016, arXiv:1512.00567, Sec. 6 and Table 1, as in TensorFlow's code and in
    torchvision. Kernels are normal with standard deviation 0.1, that of the auxiliary head 0.001
    (torchvision cuts them at 2). Without padding in the stem, maps lose a few pixels.

    Attributes:
        auxiliary: has the auxiliary head (Sec. 4), whose loss has the weight 0.4 as in TensorFlow's
            code. In training it needs images of at least 299 pixels.
        width_factor: multiplies the numbers of channels.
        dropout: rate before the head.

    The other attributes are those of `ConvNet`.
    """

    smallest_image: ClassVar[int] = 75
    aligned_features: ClassVar[bool] = False
    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem5|output)$",)
    auxiliary_heads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "auxiliary_head": ("auxiliary_conv1", "auxiliary_conv2")
    }

    auxiliary: bool = True
    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.5

    @property
    def auxiliary_logits(self) -> Mapping[str, float]:
        """Those of the last map of stride 16."""
        return {"auxiliary": 0.4} if self.auxiliary and self.num_classes else {}

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(train, epsilon=1e-3, kernel_init=nn.initializers.normal(0.1))
        found = unpadded_stem(layers, images, self.width_factor)
        x = max_pool(found["stem5"], 3, 2)
        found |= stages(layers, x, _STAGES, self.width_factor)
        if self.needs_auxiliary(train):
            self._auxiliary_head(layers, found["stage2"])
        return found

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """Global average pooling and the head."""
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        return self.classifier(x, train, kernel_init=nn.initializers.normal(0.1))

    def _auxiliary_head(self, layers: Layers, x: Array) -> None:
        if min(x.shape[1:3]) < _SIDE:
            if not self.is_initializing():
                raise ImageError(
                    "the auxiliary head of Inception v3 needs images of at least 299 x 299 pixels"
                    f" in training (here its map has {x.shape[1]} x {x.shape[2]}, not {_SIDE} x"
                    f" {_SIDE}); resize them, or set model.auxiliary to False"
                )
            # Parameters do not depend on the size.
            x = jnp.zeros((1, _SIDE, _SIDE, x.shape[-1]), x.dtype)
        x = average_pool(x, 5, 3)
        x = conv(layers, Step(128), "auxiliary_conv1", self.width_factor)(x)
        x = conv(layers, Step(768, 5, 1, 0), "auxiliary_conv2", self.width_factor)(x)
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        normal = nn.initializers.normal(0.001)
        logits = self.dense(x, self.num_outputs, "auxiliary_head", kernel_init=normal)
        self.sow_auxiliary("auxiliary", logits)


MODELS.register(
    "inception_v3",
    image_size=299,
    paper="Szegedy et al. 2016, arXiv:1512.00567",
    year=2016,
    accuracy=77.294,
    accuracy_source="torchvision IMAGENET1K_V1",
    **SYMMETRIC,
)(InceptionV3)
