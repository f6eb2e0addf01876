"""AlexNet as in the paper and in torchvision, and ZFNet."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.core.validation import Rate
from vitjax.models.convnet import ConvNet
from vitjax.models.limits import Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.nn.initializers import pytorch_kernel
from vitjax.nn.local_response_norm import local_response_norm
from vitjax.nn.window_pooling import adaptive_average_pool, max_pool

Form = Literal["torchvision", "paper", "zfnet"]
# The side of the map that the dense layers read.
SIDE = 6
# Where a max pooling follows, and a stage ends: after these convolutions.
_POOLED = (0, 1, 4)


class _Conv(NamedTuple):
    """A convolution: channels, kernel, stride, padding, groups and initial bias."""

    features: int
    kernel: int
    strides: int = 1
    padding: int = 1
    groups: int = 1
    bias: float = 0.0


_CONVS: Mapping[str, tuple[_Conv, ...]] = {
    # Krizhevsky et al. 2012, Fig. 2 and Sec. 5. Its images have 227 pixels: with the 224 of the
    # text the first map would not have 55.
    "paper": (
        _Conv(96, 11, 4, 0),
        _Conv(256, 5, 1, 2, 2, 1.0),
        _Conv(384, 3),
        _Conv(384, 3, groups=2, bias=1.0),
        _Conv(256, 3, groups=2, bias=1.0),
    ),
    # Krizhevsky 2014, arXiv:1404.5997, in the form of torchvision.
    "torchvision": (
        _Conv(64, 11, 4, 2),
        _Conv(192, 5, 1, 2),
        _Conv(384, 3),
        _Conv(256, 3),
        _Conv(256, 3),
    ),
    # Zeiler and Fergus 2014, arXiv:1311.2901, Fig. 3. The padding gives the sides of the figure:
    # 110, 55, 26 and 13.
    "zfnet": (
        _Conv(96, 7, 2, 1),
        _Conv(256, 5, 2, 0),
        _Conv(384, 3),
        _Conv(384, 3),
        _Conv(256, 3),
    ),
}


class AlexNet(ConvNet):
    """Five convolutions, three max poolings that overlap, and three dense layers.

    Krizhevsky, Sutskever and Hinton 2012 (``form="paper"``): groups in place of two GPUs, local
    response normalisation after the first two convolutions, and normal initialisation.
    ``"torchvision"`` has neither groups nor normalisation. ``"zfnet"`` (Zeiler and Fergus 2014,
    arXiv:1311.2901, Sec. 4.1) has a smaller first kernel and stride, no groups, and normalises
    after the poolings; the paper leaves its contrast normalisation open, for which AlexNet's is
    taken.

    Images of another size are averaged to the map of 6 x 6 that the dense layers read. The maps of
    `features` are those before each pooling, and the last one after it.

    Attributes:
        form: see above.
        hidden: outputs of the two dense layers before the head.
        dropout: rate before the first two dense layers (torchvision), or after them.

    The other attributes are those of `ConvNet`.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_conv1/kernel",)
    aligned_features: ClassVar[bool] = False
    smallest_image: ClassVar[int] = 67

    form: Form = "torchvision"
    hidden: Width = 4096
    dropout: Rate = 0.5

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage, and the last one after pooling."""
        modern = self.form == "torchvision"
        kernel_init = pytorch_kernel if modern else nn.initializers.normal(0.01)
        bias_init = "pytorch" if modern else 0.0
        layers = self.layers(train, kernel_init=kernel_init, bias_init=bias_init)
        x, found, stage, number = images, {}, 1, 1
        for i, conv in enumerate(_CONVS[self.form]):
            x = layers.conv(
                conv.features,
                conv.kernel,
                conv.strides,
                padding=conv.padding,
                groups=conv.groups,
                use_bias=True,
                bias_init=conv.bias or None,
                name=f"stage{stage}_conv{number}",
            )(x)
            x = jax.nn.relu(x)
            number += 1
            if i in _POOLED:
                # The map of a stage is that before its pooling.
                found[f"stage{stage}"] = x
                x = self._pooled(x, i)
                stage, number = stage + 1, 1
        return {**found, "last": x}

    def _pooled(self, x: Array, i: int) -> Array:
        """Pools after the convolution ``i``, and normalises after the first two."""
        padding = 1 if self.form == "zfnet" and i < 2 else 0
        if self.form == "paper" and i < 2:
            x = local_response_norm(x)
        x = max_pool(x, 3, 2, padding)
        return local_response_norm(x) if self.form == "zfnet" and i < 2 else x

    @nn.compact
    def classify(self, x: Array, train: bool) -> Float[Array, "batch outputs"]:
        """The dense layers ``fc1``, ``fc2`` and ``head``."""
        x = adaptive_average_pool(x, SIDE).reshape(len(x), -1)
        if self.form == "torchvision":
            x = jax.nn.relu(self.dense(self.drop(x, train), self.hidden, "fc1", self.dtype))
            x = jax.nn.relu(self.dense(self.drop(x, train), self.hidden, "fc2", self.dtype))
            return self.classifier(x, train=False)  # without dropout
        normal = {"kernel_init": nn.initializers.normal(0.01)}
        ones: dict[str, Any] = {**normal, "bias_init": nn.initializers.ones}
        x = self.drop(jax.nn.relu(self.dense(x, self.hidden, "fc1", self.dtype, **ones)), train)
        x = jax.nn.relu(self.dense(x, self.hidden, "fc2", self.dtype, **ones))
        return self.classifier(x, train, **normal, bias_init=nn.initializers.zeros)


_FORMS: tuple[tuple[str, Form, int, str, int], ...] = (
    ("alexnet", "torchvision", 224, "Krizhevsky 2014, arXiv:1404.5997", 2014),
    ("alexnet_paper", "paper", 227, "Krizhevsky et al. 2012, doi:10.1145/3065386", 2012),
    ("zfnet", "zfnet", 224, "Zeiler and Fergus 2014, arXiv:1311.2901", 2014),
)
for _name, _form, _size, _paper, _year in _FORMS:
    _facts: dict[str, Any] = {"paper": _paper, "year": _year, **IMAGENET}
    if _form == "torchvision":
        _facts |= {"accuracy": 56.522, "accuracy_source": "torchvision IMAGENET1K_V1"}
    MODELS.register(_name, image_size=_size, **_facts)(functools.partial(AlexNet, form=_form))
