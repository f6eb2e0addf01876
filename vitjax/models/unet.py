"""U-Net, without padding as in its paper, and padded."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import Rate
from vitjax.models.limits import Halvings, StageWidths, Width
from vitjax.models.protocol import Shapeless, numbers_in
from vitjax.models.registry import MODELS
from vitjax.models.segmentation import SegmentationModel
from vitjax.nn.drop import dropout
from vitjax.nn.inputs import ImageError, check_images
from vitjax.nn.norm import check_groups
from vitjax.nn.pooling import max_pool
from vitjax.nn.unet import (
    BLOCK_LOSS,
    DOUBLE_LOSS,
    KERNEL,
    AttentionGate,
    DoubleConv,
    center_crop,
    reflect_to_multiple,
    zero_pad_to,
)

_DOWN = re.compile(r"(?:^|/)down(\d+)/")
_BOTTOM = re.compile(r"(^|/)bottom/")
_RISE = re.compile(r"(?:^|/)(?:gate|up|merge)(\d+)/")


def level_widths(filters: int, depth: int, widths: Sequence[int] | None) -> tuple[int, ...]:
    """Channels of each level, the finest first: ``widths``, or ``filters`` doubled at each level.

    Raises:
        ConfigError: the number of widths is not depth + 1.
    """
    if widths is None:
        return tuple(filters * 2**level for level in range(depth + 1))
    if len(widths) != depth + 1:
        raise ConfigError(
            f"widths={list(widths)!r}: depth={depth} has {depth + 1} levels with the bottom, and"
            f" these are {len(widths)}"
        )
    return tuple(widths)


class UNet(SegmentationModel):
    """An encoder that halves the map and doubles the channels, and a decoder with skips.

    Ronneberger et al. 2015, arXiv:1505.04597, Sec. 2 and Fig. 1. ``padding="valid"`` is the paper's
    form: convolutions do not pad, so the logits are smaller than the images by `margin`, each logit
    depends on real pixels only, and images with a side that cannot be halved are an error.
    ``padding="same"`` pads each convolution with zeros and accepts images of any size; ``uneven``
    says what is done with sides that 2^depth does not divide.

    Sows ``logits``, and ``output`` of each block and ``map`` of each gate.

    Attributes:
        filters: channels of the first level; each further level has twice as many.
        depth: number of times that the map is halved.
        widths: channels of each level, the finest first and the bottom last: depth + 1 numbers that
            replace ``filters``.
        padding: ``"same"`` or ``"valid"``.
        uneven: with ``padding="same"``: ``"reflect"`` mirrors images at their borders until 2^depth
            divides their sides, and crops the logits back; ``"zeros"`` halves odd sides rounding
            down and pads maps in the decoder with zeros to the size of their skip, as in
            milesial/Pytorch-UNet.
        dropout: rate after the bottom's block (Sec. 3.1).
        attention: gates on all skips but the finest, as in arXiv:1804.03999, Sec. 2.

    The other attributes are those of `SegmentationModel`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    image_kernels: ClassVar[tuple[str, ...]] = ("down1/conv1/kernel",)
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {
        **SegmentationModel.shapeless_fields,
        "padding": Shapeless(),
        "uneven": Shapeless(("padding", "same")),
    }
    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)

    filters: Width = 64
    depth: Halvings = 4
    widths: StageWidths | None = None
    padding: Literal["same", "valid"] = "same"
    uneven: Literal["reflect", "zeros"] = "reflect"
    dropout: Rate = 0.0
    attention: bool = False

    def __post_init__(self):
        super().__post_init__()
        widths = level_widths(self.filters, self.depth, self.widths)
        check_groups(self.norm, self.norm_groups, widths)
        if self.uneven == "zeros" and (self.padding == "valid" or self.attention):
            raise ConfigError(
                "uneven='zeros' needs padding='same' and attention=False; this U-Net has"
                f" padding={self.padding!r} and attention={self.attention}"
            )

    @property
    def margin(self) -> int:
        """Pixels by which a side of the logits is smaller than that of the images.

        Half of them are lost at each end. The paper's network loses 184: 572 become 388.
        """
        if self.padding == "same":
            return 0
        # In pixels of the image, what each level loses in the encoder, the bottom and the decoder.
        down = sum(BLOCK_LOSS * 2**level for level in range(self.depth + 1))
        up = sum((self._up_loss(level) + BLOCK_LOSS) << (level - 1) for level in self._levels())
        return down + up

    def valid_size(self, size: int) -> int:
        """The smallest side in pixels, at least ``size``, that images may have.

        With padding each side is valid. Without, each max pooling must halve an even number (Sec.
        2, last paragraph) and at least one logit must be left. A block loses 4 pixels before each
        halving, so a side plus 4 is a multiple of 2^depth, and a side is larger than `margin`.
        """
        if self.padding == "same":
            return super().valid_size(size)
        multiple = 2**self.depth
        least = max(size, self.margin + 1) + BLOCK_LOSS
        return -(-least // multiple) * multiple - BLOCK_LOSS

    def effective_fields(self) -> dict[str, Any]:
        """As `Model.effective_fields`."""
        widths = level_widths(self.filters, self.depth, self.widths)
        doubled = widths == level_widths(widths[0], self.depth, None)
        grouped = {} if self.norm == "group" else {"norm_groups": None}
        own = {"widths": None if doubled else widths, "filters": widths[0]}
        return {**super().effective_fields(), **own, **grouped}

    def layer_key(self, name: str) -> tuple[int, ...]:
        """Each block down, the bottom, each level up with its gate, then the head."""
        if level := numbers_in(_DOWN, name):
            return 1, *level
        if _BOTTOM.search(name):
            return (2,)
        if level := numbers_in(_RISE, name):
            return 3, -level[0]
        return (4,)

    @property
    def map_name(self) -> str | None:
        """As of `Model`: the coarsest map."""
        return "bottom/output"

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch new_height new_width classes"]:
        """Returns the logits of every pixel, or without a head its input.

        Args:
            images: floats, of any number of channels.
            train: normalise by the batch's statistics and update ``batch_stats``, which must then
                be mutable; apply dropout, drawing from the RNG collection ``"dropout"``.

        Returns:
            (batch, new_height, new_width, num_classes), float32 or wider: of the size of the
            images, or without padding of their centre, `margin` pixels less.

        Raises:
            ImageError: images of the wrong rank, dtype or size.
        """
        check_images(images)
        valid = self.padding == "valid"
        height, width = images.shape[1:3]
        if valid:
            self._check_size(height, width)
            x = images
        elif self.uneven == "zeros":
            self._check_halved(height, width)
            x = images
        else:
            x = reflect_to_multiple(images, 2**self.depth)
        conv, norm = self._conv(valid), self._norm(train)
        widths = level_widths(self.filters, self.depth, self.widths)

        skips: dict[int, Array] = {}
        for level in self._levels():
            x = DoubleConv(widths[level - 1], conv, norm, name=f"down{level}")(x)
            skips[level] = x
            x = max_pool(x, 2)
        x = DoubleConv(widths[-1], conv, norm, name="bottom")(x)
        x = dropout(x, self.dropout, self.make_rng("dropout") if train and self.dropout else None)

        for level in reversed(self._levels()):
            skip, features = skips[level], widths[level - 1]
            if self._gated(level):
                skip = AttentionGate(valid, conv, name=f"gate{level}")(skip, x)
            x = self._up(features, f"up{level}", valid)(x)
            if self.uneven == "zeros":
                x = zero_pad_to(x, *skip.shape[1:3])
            sides = [min(a, b) for a, b in zip(skip.shape[1:3], x.shape[1:3], strict=True)]
            x = jnp.concatenate([center_crop(skip, *sides), center_crop(x, *sides)], axis=-1)
            x = DoubleConv(features, conv, norm, name=f"merge{level}")(x)

        x = self._logits(x)
        x = x if valid else center_crop(x, height, width)
        self.sow("intermediates", "logits", x)
        return x

    def _levels(self) -> range:
        """The levels that have a skip, the finest, 1, first."""
        return range(1, self.depth + 1)

    def _gated(self, level: int) -> bool:
        # The features of the finest skip are not gated, as they are low-level (arXiv:1804.03999).
        return self.attention and level > 1

    def _up_loss(self, level: int) -> int:
        """Pixels that the upsampling to ``level`` takes from a side, before its block."""
        if self.up == "resize":
            return DOUBLE_LOSS + KERNEL - 1
        return DOUBLE_LOSS if self._gated(level) else 0

    def _check_halved(self, height: int, width: int) -> None:
        if min(height, width) < 2**self.depth:
            raise ImageError(
                f"images of {height} x {width} pixels (height x width): with uneven='zeros' and"
                f" depth={self.depth}, each side must be at least {2**self.depth}"
                " (uneven='reflect' takes any)"
            )

    def _check_size(self, height: int, width: int) -> None:
        for side in (height, width):
            above = self.valid_size(side)
            if above == side:
                continue
            multiple, least = 2**self.depth, self.valid_size(1)
            below = above - multiple
            near = f"{below} and {above}" if below >= least else str(above)
            raise ImageError(
                f"images of {height} x {width} pixels (height x width): without padding and with"
                f" depth={self.depth}, sides are {least} pixels or a multiple of {multiple} more;"
                f" nearest to {side}: {near} (padding='same' takes any)"
            )


_UNET: dict[str, Any] = {
    "paper": "Ronneberger et al. 2015 (U-Net), arXiv:1505.04597",
    "year": 2015,
}
_ATTENTION: dict[str, Any] = {
    "paper": "Oktay et al. 2018 (Attention U-Net), arXiv:1804.03999",
    "year": 2018,
}


def _register(name: str, size: int, facts: Mapping[str, Any], **fields: Any) -> None:
    # The images of these papers have one channel.
    MODELS.register(name, image_size=size, input_shape=(size, size, 1), **facts)(
        functools.partial(UNet, **fields)
    )


_register("unet", 512, _UNET, norm="batch")
_register("unet_valid", 572, _UNET, padding="valid")
_register("unet_attention", 160, _ATTENTION, norm="batch", attention=True)
