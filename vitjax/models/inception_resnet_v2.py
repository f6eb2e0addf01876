"""Inception-ResNet v2: inception blocks as the branches of residual blocks."""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.conv_norm import Layers
from vitjax.nn.inception import Mixed, Pool, Step, Table, conv, unpadded_stem
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.residual import add, add_and_rectify
from vitjax.nn.window_pooling import max_pool

_HALVE = Pool("max", 2, 0)
# The end of the stem, which TensorFlow's code has in place of arXiv:1602.07261, Fig. 3.
_STEM: Table = (
    (Step(96),),
    (Step(48), Step(64, 5)),
    (Step(64), Step(96, 3), Step(96, 3)),
    (Pool("average", count_padding=False), Step(64)),
)
# Fig. 16, 17 and 19: the branches of each stage, and the scale of what they add (Sec. 3.3).
_BLOCKS: tuple[tuple[Table, float], ...] = (
    (
        (
            (Step(32),),
            (Step(32), Step(32, 3)),
            (Step(32), Step(48, 3), Step(64, 3)),
        ),
        0.17,
    ),
    (
        (
            (Step(192),),
            (Step(128), Step(160, (1, 7)), Step(192, (7, 1))),
        ),
        0.1,
    ),
    (
        (
            (Step(192),),
            (Step(192), Step(224, (1, 3)), Step(256, (3, 1))),
        ),
        0.2,
    ),
)
# Fig. 7, with k = l = 256, m = n = 384 of Table 1; and Fig. 18.
_REDUCTIONS: tuple[Table, ...] = (
    (
        (Step(384, 3, 2, 0),),
        (Step(256), Step(256, 3), Step(384, 3, 2, 0)),
        (_HALVE,),
    ),
    (
        (Step(256), Step(384, 3, 2, 0)),
        (Step(256), Step(288, 3, 2, 0)),
        (Step(256), Step(288, 3), Step(320, 3, 2, 0)),
        (_HALVE,),
    ),
)


class ScaledResidual(nn.Module):
    """Inception branches and a linear 1 x 1 convolution, scaled, beside a shortcut.

    Szegedy et al. 2017, arXiv:1602.07261, Sec. 3.3 and Fig. 20. Sows ``output``.

    Attributes:
        layers: what the network's layers share.
        table: the branches.
        scale: of what is added to the shortcut.
        width_factor: multiplies the numbers of channels of the branches.
        activate: a ReLU follows the sum.
    """

    layers: Layers
    table: Table
    scale: float
    width_factor: float = 1.0
    activate: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width features"]
    ) -> Float[Array, "batch height width features"]:
        """Applies the block."""
        y = Mixed(self.layers, self.table, self.width_factor, name="branches")(x)
        y = self.layers.conv(x.shape[-1], use_bias=True, name="project")(y) * self.scale
        x = add_and_rectify(x, y) if self.activate else add(x, y)
        self.sow("intermediates", "output", x)
        return x


class InceptionResNetV2(ConvNet):
    """Three stages of scaled residual inception blocks.

    Szegedy et al. 2017, arXiv:1602.07261, Sec. 3.2, as in TensorFlow's code: the stem is that of
    Inception v3 and one inception block. The last block of the third stage is neither scaled nor
    followed by a ReLU. PyTorch's initialisation as in timm. Without padding in the stem, maps lose
    a few pixels.

    Attributes:
        stage_sizes: residual blocks of each of the three stages.
        width_factor: multiplies the numbers of channels.
        dropout: rate before the head (Fig. 15).

    The other attributes are those of `ConvNet`.
    """

    smallest_image: ClassVar[int] = 75
    aligned_features: ClassVar[bool] = False
    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem_mixed|stage\d_\w+)/output$",)

    stage_sizes: StageSizes = (10, 20, 10)
    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.2

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        factor = self.width_factor
        layers = self.layers(train, epsilon=1e-3, kernel_init=pytorch_kernel, bias_init="pytorch")
        found = unpadded_stem(layers, images, factor)
        x = Mixed(layers, _STEM, factor, name="stem_mixed")(max_pool(found["stem5"], 3, 2))
        stages = zip(_BLOCKS, self.stage_sizes, strict=True)
        for stage, ((table, scale), count) in enumerate(stages, start=1):
            for i in range(1, count + 1):
                last = stage == 3 and i == count
                x = ScaledResidual(
                    layers,
                    table,
                    1.0 if last else scale,
                    factor,
                    activate=not last,
                    name=f"stage{stage}_block{i}",
                )(x)
            found[f"stage{stage}"] = x
            if stage < 3:
                table = _REDUCTIONS[stage - 1]
                x = Mixed(layers, table, factor, name=f"stage{stage}_transition")(x)
        x = conv(layers, Step(1536), "last", factor)(x)
        kept = ("stem3", "stem5", "stage1", "stage2")
        return {name: found[name] for name in kept} | {"last": x}


MODELS.register(
    "inception_resnet_v2",
    image_size=299,
    paper="Szegedy et al. 2017, arXiv:1602.07261",
    year=2017,
    interpolation="bicubic",
    **SYMMETRIC,
)(InceptionResNetV2)
