"""U-Net on a residual network."""

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from vitjax.models.limits import StageSizes, StageWidths, Width
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.models.resnet import BlockKind, ResNet, Stem
from vitjax.models.unet_encoder import EncoderDecoder


class UNetResNet(EncoderDecoder):
    """A U-Net on the maps of a `ResNet` (He et al. 2016, arXiv:1512.03385), with its fields.

    The encoder of ImageNet's networks halves the image at once, so the last step of the decoder
    has no skip; the step before has the stem's map from before its max pooling.

    Attributes:
        norm: ``"batch"`` or ``"group"``, of the encoder too.
        stage_sizes: blocks of each stage of the encoder.
        block: ``"basic"`` or ``"bottleneck"``.
        width: inner channels of the encoder's first stage.
        stem: ``"imagenet"`` or ``"cifar"``, which keeps the size.

    The other attributes are those of `EncoderDecoder`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = ResNet.counted_layers

    norm: Literal["batch", "group"] = "batch"
    stage_sizes: StageSizes = (2, 2, 2, 2)
    block: BlockKind = "basic"
    width: Width = 64
    stem: Stem = "imagenet"
    decoder_widths: StageWidths = (256, 128, 64, 32, 16)

    @property
    def backbone(self) -> tuple[str, ResNet]:
        """The encoder, which weights of a `ResNet` can fill."""
        return "encoder", self.make_encoder(parent=None)

    def make_encoder(self, **keywords: Any) -> ResNet:
        """The encoder, without a head; see `EncoderDecoder.make_encoder`."""
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
            **self.dtypes,
            **keywords,
        )


_PAPER = (
    "He et al. 2016, arXiv:1512.03385 (down); Ronneberger et al. 2015 (U-Net), arXiv:1505.04597"
    " (up)"
)

for _depth, _sizes in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}.items():
    _block: BlockKind = "basic" if _depth < 50 else "bottleneck"
    MODELS.register(f"unet_resnet{_depth}", image_size=224, paper=_PAPER, year=2016, **IMAGENET)(
        functools.partial(UNetResNet, stage_sizes=_sizes, block=_block)
    )
