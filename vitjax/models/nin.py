"""Network in Network: small networks of 1 x 1 convolutions over each window, and no dense layer."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import Rate
from vitjax.models.conv_head import ConvHeadNet
from vitjax.models.limits import StageWidths
from vitjax.models.registry import CIFAR10, IMAGENET, MODELS
from vitjax.nn.window_pooling import average_pool, max_pool

Form = Literal["cifar", "imagenet"]
# Convolutions of a stage: one over a window, and two over a pixel.
LAYERS = 3


class _Stage(NamedTuple):
    """A stage: its pooling, dropout, and first convolution.

    Attributes:
        kernel: side of the kernel of the first convolution in pixels.
        pooling: before it; None for none.
        drop: dropout after the pooling.
        strides: of the convolution.
        padding: of the convolution; None keeps the size.
        std: standard deviation of its initial weights.
    """

    kernel: int
    pooling: Literal["max", "average"] | None = None
    drop: bool = False
    strides: int = 1
    padding: int | None = None
    std: float = 0.05


# What the authors published in Caffe's Model Zoo: the gists e56253735ef32c3c296d (CIFAR-10) and
# d802a5849de39225bcc6 (ImageNet) of mavenlin.
_STAGES: Mapping[Form, tuple[_Stage, ...]] = {
    "cifar": (_Stage(5), _Stage(5, "max", drop=True), _Stage(3, "average", drop=True)),
    "imagenet": (
        _Stage(11, strides=4, padding=0, std=0.01),
        _Stage(5, "max"),
        _Stage(3, "max", std=0.01),
        _Stage(3, "max", drop=True),
    ),
}
# Of 1 x 1 convolutions, and of the last one, the head.
_STD = 0.05
_HEAD_STD: Mapping[Form, float] = {"cifar": 0.05, "imagenet": 0.01}
_WIDTHS: Mapping[Form, tuple[int, ...]] = {
    "cifar": (192, 160, 96, 192, 192, 192, 192, 192),
    "imagenet": (96, 96, 96, 256, 256, 256, 384, 384, 384, 1024, 1024),
}


class NiN(ConvHeadNet):
    """Stages of a convolution and two 1 x 1 convolutions, and the mean of the last maps.

    Lin, Chen and Yan 2014, arXiv:1312.4400, Sec. 3 and Fig. 2, in the form of the networks that the
    authors published for Caffe: ``"cifar"`` has three stages, a max and an average pooling, each
    followed by dropout; ``"imagenet"`` has four stages, three max poolings, and dropout after the
    last one. Poolings are over 3 x 3 pixels at stride 2, and keep a last window that reaches over
    the end. Weights are normal with the standard deviations of these networks, biases 0.

    The last convolution is the head, which a ReLU and the mean over pixels follow. Without it the
    model returns the map that it would read. The maps of `features` are those of the stages, the
    last one before the head.

    Attributes:
        form: see above.
        widths: channels of all convolutions but the head, three per stage.
        dropout: rate after poolings.

    The other attributes are those of `ConvNet`.

    Raises:
        ConfigError: ``widths`` are not those of the stages of ``form``.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("stage1_conv1/kernel",)
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)stage\d+$",)
    aligned_features: ClassVar[bool] = False

    form: Form = "imagenet"
    widths: StageWidths = _WIDTHS["imagenet"]
    dropout: Rate = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = len(_STAGES[self.form]) * LAYERS - 1
        if len(self.widths) != expected:
            raise ConfigError(
                f"widths={list(self.widths)!r} has {len(self.widths)} channels; form={self.form!r}"
                f" has {expected} convolutions before the head"
            )

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """The side of which every pooling has a window."""
        return {"cifar": 4, "imagenet": 39}[self.form]

    @property
    def head_fields(self) -> dict[str, Any]:
        """As of `ConvHeadNet`."""
        return {"kernel_init": nn.initializers.normal(_HEAD_STD[self.form])}

    @nn.compact
    def maps(
        self, images: Float[Array, "batch height width channels"], train: bool
    ) -> dict[str, Array]:
        """The map of each stage."""
        layers, x, found = self.layers(train), images, {}
        widths = iter(self.widths)
        for number, stage in enumerate(_STAGES[self.form], start=1):
            if stage.pooling is not None:
                pool = max_pool if stage.pooling == "max" else average_pool
                x = pool(x, 3, 2, ceil=True)
            x = self.drop(x, train) if stage.drop else x
            for layer, features in zip(range(1, LAYERS + 1), widths, strict=False):
                first = layer == 1
                x = layers.conv(
                    features,
                    stage.kernel if first else 1,
                    stage.strides if first else 1,
                    padding=stage.padding if first else 0,
                    use_bias=True,
                    kernel_init=nn.initializers.normal(stage.std if first else _STD),
                    name=f"stage{number}_conv{layer}",
                )(x)
                x = jax.nn.relu(x)
            found[f"stage{number}"] = x
        return found


_PAPER: dict[str, Any] = {"paper": "Lin et al. 2014, arXiv:1312.4400", "year": 2014}
MODELS.register("nin_cifar10", image_size=32, **_PAPER, **CIFAR10)(
    functools.partial(NiN, form="cifar", widths=_WIDTHS["cifar"], num_classes=10)
)
MODELS.register("nin_imagenet", image_size=224, **_PAPER, **IMAGENET)(
    functools.partial(NiN, form="imagenet", widths=_WIDTHS["imagenet"])
)
