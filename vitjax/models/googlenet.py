"""GoogLeNet (Inception v1): branches of 1 x 1, 3 x 3 and 5 x 5 convolutions side by side."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.validation import PositiveFloat, Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.protocol import Model
from vitjax.models.registry import MODELS, SYMMETRIC
from vitjax.nn.conv_norm import ConvNorm, Layers
from vitjax.nn.dtypes import output_dtype
from vitjax.nn.inception import Mixed, Pool, Step, Table, scaled
from vitjax.nn.window_pooling import adaptive_average_pool, max_pool

# Outputs of: 1 x 1; 3 x 3 and the 1 x 1 before it; "5 x 5" likewise; 1 x 1 after pooling.
# arXiv:1409.4842, Table 1, without the rows of pooling.
BLOCKS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
# Side and channels of the map that the dense layers of an auxiliary head read, and their outputs.
SIDE, _REDUCED, _HIDDEN = 4, 128, 1024
# The blocks of the second stage that are followed by an auxiliary head.
_AUXILIARY = {1: "auxiliary1", 4: "auxiliary2"}


def _table(one: int, reduce3: int, three: int, reduce5: int, five: int, projected: int) -> Table:
    return (
        (Step(one),),
        (Step(reduce3), Step(three, 3)),
        # 3 x 3 in place of the paper's 5 x 5, as in torchvision and TensorFlow's weights.
        (Step(reduce5), Step(five, 3)),
        (Pool("max"), Step(projected)),
    )


class GoogLeNet(ConvNet):
    """Nine inception blocks in three stages, with two auxiliary heads in training.

    Szegedy et al. 2015, arXiv:1409.4842, Table 1 and Sec. 5, in torchvision's form: batch
    normalisation in place of local response normalisation, and 3 x 3 convolutions in place of
    5 x 5. Kernels are normal with standard deviation 0.01 (torchvision cuts them at 200 of these).

    Attributes:
        auxiliary: has the two auxiliary heads; their losses have the weight 0.3 (Sec. 5).
        width_factor: multiplies the numbers of channels.
        dropout: rate before the head.
        auxiliary_dropout: rate before the last layer of each auxiliary head.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stem1/conv/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)(stem3|output)$",)
    auxiliary_heads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        f"{name}_head": (f"{name}_conv", f"{name}_fc") for name in _AUXILIARY.values()
    }
    regularising_fields: ClassVar[tuple[str, ...]] = (
        *Model.regularising_fields,
        "auxiliary_dropout",
    )

    auxiliary: bool = True
    width_factor: PositiveFloat = 1.0
    dropout: Rate = 0.2
    auxiliary_dropout: Rate = 0.7

    @property
    def auxiliary_logits(self) -> Mapping[str, float]:
        """Those after the blocks 4a and 4d of the paper."""
        return (
            dict.fromkeys(_AUXILIARY.values(), 0.3) if self.auxiliary and self.num_classes else {}
        )

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The last map of each stride."""
        layers = self.layers(train, epsilon=1e-3, kernel_init=nn.initializers.normal(0.01))
        found = {"stem1": ConvNorm(layers, self._wide(64), 7, 2, name="stem1")(images)}
        x = max_pool(found["stem1"], 3, 2, ceil=True)
        x = ConvNorm(layers, self._wide(64), name="stem2")(x)
        x = found["stem3"] = ConvNorm(layers, self._wide(192), 3, name="stem3")(x)
        for stage, blocks in enumerate(BLOCKS, start=1):
            x = max_pool(x, 2 if stage == 3 else 3, 2, ceil=True)
            for i, widths in enumerate(blocks, start=1):
                name = f"stage{stage}_block{i}"
                x = Mixed(layers, _table(*widths), self.width_factor, name=name)(x)
                if stage == 2 and i in _AUXILIARY and self.needs_auxiliary(train):
                    self._auxiliary_head(layers, x, train, _AUXILIARY[i])
            found[f"stage{stage}"] = x
        return found

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """Global average pooling and the head."""
        x = jnp.mean(x, axis=(1, 2), dtype=output_dtype(self.param_dtype))
        return self.classifier(x, train, kernel_init=nn.initializers.normal(0.01))

    def _auxiliary_head(self, layers: Layers, x: Array, train: bool, name: str) -> None:
        normal = {"kernel_init": nn.initializers.normal(0.01)}
        x = adaptive_average_pool(x, SIDE)
        x = ConvNorm(layers, self._wide(_REDUCED), name=f"{name}_conv")(x).reshape(len(x), -1)
        x = self.dense(x, self._wide(_HIDDEN), f"{name}_fc", self.dtype, **normal)
        x = jax.nn.relu(x)
        x = nn.Dropout(self.auxiliary_dropout, deterministic=not train)(x)
        self.sow_auxiliary(name, self.dense(x, self.num_outputs, f"{name}_head", **normal))

    def _wide(self, features: int) -> int:
        return scaled(features, self.width_factor)


MODELS.register(
    "googlenet",
    image_size=224,
    paper="Szegedy et al. 2015, arXiv:1409.4842",
    year=2015,
    accuracy=69.778,
    accuracy_source="torchvision IMAGENET1K_V1",
    **SYMMETRIC,
)(GoogLeNet)
