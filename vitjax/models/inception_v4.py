"""Inception v4: a stem of branches and more uniform inception blocks."""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.inception import Fork, Mixed, Pool, Step, Table, stages, unpadded_stem
from vitjax.nn.initializers import pytorch_kernel

_AVERAGE = Pool("average", count_padding=False)
_HALVE = Pool("max", 2, 0)
_ROW, _COLUMN = (1, 7), (7, 1)

# arXiv:1602.07261, Fig. 3: the branches of the stem, the first and the last with a stride of 2.
STEM: tuple[Table, ...] = (
    ((_HALVE,), (Step(96, 3, 2, 0),)),
    (
        (Step(64), Step(96, 3, 1, 0)),
        (Step(64), Step(64, _ROW), Step(64, _COLUMN), Step(96, 3, 1, 0)),
    ),
    ((Step(192, 3, 2, 0),), (_HALVE,)),
)
# Fig. 4 to 6.
_A: Table = (
    (Step(96),),
    (Step(64), Step(96, 3)),
    (Step(64), Step(96, 3), Step(96, 3)),
    (_AVERAGE, Step(96)),
)
_B: Table = (
    (Step(384),),
    (Step(192), Step(224, _ROW), Step(256, _COLUMN)),
    (Step(192), Step(192, _COLUMN), Step(224, _ROW), Step(224, _COLUMN), Step(256, _ROW)),
    (_AVERAGE, Step(128)),
)
_WIDE = Fork((Step(256, (1, 3)), Step(256, (3, 1))))
_C: Table = (
    (Step(256),),
    (Step(384), _WIDE),
    (Step(384), Step(448, (3, 1)), Step(512, (1, 3)), _WIDE),
    (_AVERAGE, Step(256)),
)
# Fig. 7, with k = 192, l = 224, m = 256, n = 384 of Table 1; and Fig. 8.
_REDUCE_A: Table = (
    (Step(384, 3, 2, 0),),
    (Step(192), Step(224, 3), Step(256, 3, 2, 0)),
    (_HALVE,),
)
_REDUCE_B: Table = (
    (Step(192), Step(192, 3, 2, 0)),
    (Step(256), Step(256, _ROW), Step(320, _COLUMN), Step(320, 3, 2, 0)),
    (_HALVE,),
)


class InceptionV4(ConvNet):
    """Three stages of inception blocks without shortcuts.

    Szegedy et al. 2017, arXiv:1602.07261, Sec. 3.1 and Fig. 9, with PyTorch's initialisation as in
    timm. Without padding in the stem, maps lose a few pixels.

    Attributes:
        stage_sizes: blocks of each of the three stages.
        width_factor: multiplies the numbers of channels.
        dropout: rate before the head (Fig. 9).

    The other attributes are those of `ConvNet`.
    """

    smallest_image: ClassVar[int] = 75
    aligned_features: ClassVar[bool] = False
    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)

    stage_sizes: StageSizes = (4, 7, 3)
    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.2

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(train, epsilon=1e-3, kernel_init=pytorch_kernel)
        found = unpadded_stem(layers, images, self.width_factor, last=False)
        x = found["stem3"]
        for i, table in enumerate(STEM, start=1):
            if i == len(STEM):  # it has a stride
                found["stem"] = x
            x = Mixed(layers, table, self.width_factor, name=f"stem_mixed{i}")(x)
        blocks = zip((_A, _B, _C), self.stage_sizes, (_REDUCE_A, _REDUCE_B, None), strict=True)
        tables = [((table,) * count, reduction) for table, count, reduction in blocks]
        return found | stages(layers, x, tables, self.width_factor)


MODELS.register(
    "inception_v4",
    image_size=299,
    paper="Szegedy et al. 2017, arXiv:1602.07261",
    year=2017,
    interpolation="bicubic",
    **SYMMETRIC,
)(InceptionV4)
