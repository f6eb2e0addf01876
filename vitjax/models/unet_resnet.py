"""U-Net whose way down is a residual network, which may bring weights from classification."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import check_positive
from vitjax.models.registry import MODELS
from vitjax.models.resnet import ResNet
from vitjax.nn.inputs import check_images
from vitjax.nn.norm import check_norm
from vitjax.nn.unet import DoubleConv, SegmentationModel, center_crop, reflect_to_multiple


class UNetResNet(SegmentationModel):
    """The way up of a U-Net on the stages of a `ResNet`.

    The encoder is that of He et al. 2016, arXiv:1512.03385. Its parameters and batch statistics,
    under ``encoder``, bear the names and shapes of a `ResNet`'s, less the head. Each step up
    doubles the map, joins the encoder's last map of that size, where it has one, and applies a
    block, as in arXiv:1505.04597, Fig. 1. The encoder of ImageNet's networks halves the image at
    once, so the last step has no skip; the one before has the stem's map, from before its max
    pooling.

    Images may have any size: they are mirrored at their borders until the encoder's whole stride
    divides their sides, and the logits are cropped back.

    Sows ``logits``, each block's ``output`` and what the encoder sows.

    Attributes:
        norm: ``"batch"`` or ``"group"``, of the encoder too.
        stage_sizes: blocks of each stage of the encoder.
        block: ``"basic"`` or ``"bottleneck"``.
        width: inner channels of the encoder's first stage.
        stem: ``"imagenet"`` or ``"cifar"``, which keeps the size.
        decoder_widths: channels of each step up, the coarsest first.
        head_kernel: side of the head's kernel in pixels, which is odd.

    The other attributes are those of `vitjax.nn.unet.SegmentationModel`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    norm: str = "batch"
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    block: str = "basic"
    width: int = 64
    stem: str = "imagenet"
    decoder_widths: Sequence[int] = (256, 128, 64, 32, 16)
    head_kernel: int = 1

    def __post_init__(self):
        # A list, as JSON brings it, would leave the module without a hash.
        self.stage_sizes = tuple(self.stage_sizes)
        self.decoder_widths = tuple(self.decoder_widths)
        check_positive("stage_sizes", *self.stage_sizes)
        check_positive("width", self.width)
        check_positive("head_kernel", self.head_kernel)
        if self.head_kernel % 2 == 0:
            raise ConfigError(f"head_kernel={self.head_kernel!r}: a pixel is in its middle, so odd")
        self._encoder(parent=None)
        steps = self._steps()
        if len(self.decoder_widths) != steps:
            raise ConfigError(
                f"decoder_widths={list(self.decoder_widths)!r}: with stem={self.stem!r} and"
                f" {len(self.stage_sizes)} stages the image is halved {steps} times, and these are"
                f" {len(self.decoder_widths)} steps up"
            )
        if steps:
            check_positive("decoder_widths", *self.decoder_widths)
        check_norm(self.norm, self.norm_epsilon, self.norm_groups, self.decoder_widths)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch height width classes"]:
        """Returns the logits of every pixel, or the features that the head would read.

        Args:
            images: floats, of any number of channels.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable.

        Returns:
            (batch, height, width, num_classes), float32 or wider.

        Raises:
            ImageError: images of the wrong rank or dtype, or without pixels.
        """
        check_images(images)
        height, width = images.shape[1:3]
        maps = self._maps(reflect_to_multiple(images, 2 ** self._steps()), train)
        conv, norm = self._conv(), self._norm(train)
        x = maps.pop()
        for step, features in enumerate(self.decoder_widths, start=1):
            x = self._up(features, f"up{step}")(x)
            if maps:
                x = jnp.concatenate([maps.pop(), x], axis=-1)
            x = DoubleConv(features, conv, norm, name=f"merge{step}")(x)
        x = center_crop(self._logits(x, size=self.head_kernel), height, width)
        self.sow("intermediates", "logits", x)
        return x

    @property
    def backbone(self) -> tuple[str, ResNet]:
        """The part that a network of classification may fill: its name, and its module."""
        return "encoder", self._encoder(parent=None)

    def _maps(self, images: Array, train: bool) -> list[Array]:
        """The encoder's last map of every size, the finest first."""
        stages = self._encoder(name="encoder").stages(images, train)
        # Of maps of one size, as the stem's and the first stage's, the last counts.
        return list({x.shape[1]: x for x in stages.values()}.values())

    def _encoder(self, **keywords: Any) -> ResNet:
        return ResNet(
            stage_sizes=self.stage_sizes,
            block=self.block,
            num_classes=None,
            width=self.width,
            stem=self.stem,
            norm=self.norm,
            norm_groups=self.norm_groups,
            conv_impl=self.conv_impl,
            axis_name=self.axis_name,
            **self._dtypes(),
            **keywords,
        )

    def _steps(self) -> int:
        """Times that the encoder halves the image."""
        return len(self.stage_sizes) - 1 + (2 if self.stem == "imagenet" else 0)


for _depth, _sizes in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}.items():
    MODELS.register(
        f"unet_resnet{_depth}",
        image_size=224,
        paper="He et al. 2016, arXiv:1512.03385 (down); Ronneberger et al. 2015 (U-Net),"
        " arXiv:1505.04597 (up)",
    )(
        functools.partial(
            UNetResNet, stage_sizes=_sizes, block="basic" if _depth < 50 else "bottleneck"
        )
    )
