"""Inception v2 (BN-Inception): inception blocks with batch normalisation and pairs of 3 x 3."""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat
from vitjax.models.convnet import ConvNet
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.inception import Pool, Step, Table, conv, stages
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.window_pooling import max_pool

_AVERAGE = Pool("average")


def _block(
    one: int,
    reduce3: int,
    three: int,
    reduce5: int,
    five: int,
    projected: int,
    pooling: Pool = _AVERAGE,
) -> Table:
    """Two 3 x 3 convolutions are in place of one of 5 x 5."""
    return (
        (Step(one),),
        (Step(reduce3), Step(three, 3)),
        (Step(reduce5), Step(five, 3), Step(five, 3)),
        (pooling, Step(projected)),
    )


def _reduction(reduce3: int, three: int, reduce5: int, five: int) -> Table:
    # Where a side is even, "same" pads the pooling as rounding its size up does. Where it is odd,
    # Caffe's pooling has a pixel less than the convolutions, and their maps cannot be concatenated.
    return (
        (Step(reduce3), Step(three, 3, 2)),
        (Step(reduce5), Step(five, 3), Step(five, 3, 2)),
        (Pool("max", 2, "same"),),
    )


# arXiv:1502.03167, Fig. 5, in the numbers of the published Caffe model, whose 4c, 4d and 4e have
# more channels than the figure.
_STAGES = (
    (
        (_block(64, 64, 64, 64, 96, 32), _block(64, 64, 96, 64, 96, 64)),
        _reduction(128, 160, 64, 96),
    ),
    (
        (
            _block(224, 64, 96, 96, 128, 128),
            _block(192, 96, 128, 96, 128, 128),
            _block(160, 128, 160, 128, 160, 128),
            _block(96, 128, 192, 160, 192, 128),
        ),
        _reduction(128, 192, 192, 256),
    ),
    (
        (
            _block(352, 192, 320, 160, 224, 128),
            _block(352, 192, 320, 192, 224, 128, Pool("max")),
        ),
        None,
    ),
)


class InceptionV2(ConvNet):
    """Ten inception blocks, each convolution with batch normalisation.

    Ioffe and Szegedy 2015, arXiv:1502.03167, Fig. 5, as in the published Caffe model: convolutions
    have biases, and poolings with a stride round sizes up. PyTorch's initialisation.

    Attributes:
        width_factor: multiplies the numbers of channels.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem3|output)$",)

    width_factor: PositiveFloat = 1.0

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers, factor = (
            self.layers(train, kernel_init=pytorch_kernel, bias_init="pytorch"),
            self.width_factor,
        )
        x = conv(layers, Step(64, 7, 2), "stem1", factor, use_bias=True)(images)
        found = {"stem1": x}
        x = max_pool(x, 3, 2, ceil=True)
        x = conv(layers, Step(64), "stem2", factor, use_bias=True)(x)
        x = found["stem3"] = conv(layers, Step(192, 3), "stem3", factor, use_bias=True)(x)
        x = max_pool(x, 3, 2, ceil=True)
        return found | stages(layers, x, _STAGES, factor, use_bias=True)


MODELS.register(
    "inception_v2",
    image_size=224,
    paper="Ioffe and Szegedy 2015, arXiv:1502.03167",
    year=2015,
    **IMAGENET,
)(InceptionV2)
