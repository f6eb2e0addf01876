"""VGG: deep stacks of 3 x 3 convolutions between max poolings."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import StageSizes, Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.window_pooling import adaptive_average_pool, max_pool

# The side of the map that the dense layers read.
SIDE = 7


class VGG(ConvNet):
    """Stages of 3 x 3 convolutions, each followed by max pooling, and three dense layers.

    Simonyan and Zisserman 2015, arXiv:1409.1556, Sec. 2, with the initialisation of torchvision.
    Images of another size than 224 are averaged to the map of 7 x 7 that the dense layers read, as
    in torchvision and timm. The maps of `features` are those before each pooling, and the last one
    after it.

    Attributes:
        stage_sizes: convolutions of each of the five stages.
        width: channels of the first stage; each stage up to the fourth doubles them (Table 1).
        hidden: outputs of the two dense layers before the head.
        batch_norm: batch normalisation after each convolution.
        dropout: rate after each of the two dense layers (Sec. 3.1).

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_conv1/kernel",)

    stage_sizes: StageSizes = (2, 2, 3, 3, 3)
    width: Width = 64
    hidden: Width = 4096
    batch_norm: bool = False
    dropout: Rate = 0.5

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage, and the last one after pooling."""
        layers, x, found = self.layers(train), images, {}
        for stage, convolutions in enumerate(self.stage_sizes, start=1):
            x = max_pool(x, 2, 2) if stage > 1 else x
            features = self.width * 2 ** min(stage - 1, 3)
            for i in range(1, convolutions + 1):
                x = layers.conv(features, 3, use_bias=True, name=f"stage{stage}_conv{i}")(x)
                if self.batch_norm:
                    x = layers.norm(name=f"stage{stage}_norm{i}")(x)
                x = jax.nn.relu(x)
            found[f"stage{stage}"] = x
        return {**found, "last": max_pool(x, 2, 2)}

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """The dense layers ``fc1``, ``fc2`` and ``head``."""
        normal = {"kernel_init": nn.initializers.normal(0.01), "bias_init": nn.initializers.zeros}
        x = adaptive_average_pool(x, SIDE).reshape(len(x), -1)
        x = jax.nn.relu(self.dense(x, self.hidden, "fc1", self.dtype, **normal))
        x = self.drop(x, train)
        x = jax.nn.relu(self.dense(x, self.hidden, "fc2", self.dtype, **normal))
        return self.classifier(x, train, **normal)


# Top-1 of torchvision's IMAGENET1K_V1 weights.
_ACCURACY = {
    "vgg11": 69.020,
    "vgg11_bn": 70.370,
    "vgg13": 69.928,
    "vgg13_bn": 71.586,
    "vgg16": 71.592,
    "vgg16_bn": 73.360,
    "vgg19": 72.376,
    "vgg19_bn": 74.218,
}

for _depth, _sizes in {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}.items():
    for _suffix in ("", "_bn"):
        MODELS.register(
            f"vgg{_depth}{_suffix}",
            image_size=224,
            paper="Simonyan and Zisserman 2015, arXiv:1409.1556",
            year=2015,
            accuracy=_ACCURACY[f"vgg{_depth}{_suffix}"],
            accuracy_source="torchvision IMAGENET1K_V1",
            **IMAGENET,
        )(functools.partial(VGG, stage_sizes=_sizes, batch_norm=bool(_suffix)))
