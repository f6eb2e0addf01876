"""U-Net on the feature maps of another model, which may bring weights from classification."""

import abc
import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitjax.core.errors import ConfigError
from vitjax.core.validation import call, keywords_of
from vitjax.models.limits import Pixels, StageWidths
from vitjax.models.protocol import Model
from vitjax.models.registry import IMAGENET, MODELS
from vitjax.models.segmentation import SegmentationModel
from vitjax.nn.inputs import check_images
from vitjax.nn.norm import Norm, check_groups
from vitjax.nn.unet import DoubleConv, center_crop, reflect_to_multiple, zero_pad_to

Self = TypeVar("Self", bound="EncoderUNet")

_ENCODER = re.compile(r"(?:^|/)encoder/(.*)")
# Fields that the encoder takes from the U-Net, where it declares them.
_SHARED = ("conv_impl", "axis_name", "dtype", "param_dtype")


class EncoderDecoder(SegmentationModel):
    """The decoder of a U-Net on the feature maps of an encoder.

    The parameters and statistics of the encoder, under ``encoder``, have the names and shapes of
    the encoder's own model without its head. Each step of the decoder doubles the map, concatenates
    the encoder's last map of that stride, where it has one, and applies a block, as in
    arXiv:1505.04597, Fig. 1. An encoder whose maps all have one stride, such as a ViT, gives its
    last map to the first step; the others, from the deepest on, are upsampled to the strides of the
    first, second, ... skip (Hatamizadeh et al. 2022 (UNETR), arXiv:2103.10504, Sec. 3.1).

    A map of an encoder whose layers do not pad is smaller than the image over its stride: zeros are
    put around it.

    Images may have any size: they are mirrored at their borders until the encoder's largest stride
    divides their sides, and the logits are cropped back.

    Sows ``logits``, each block's ``output`` and what the encoder sows.

    Attributes:
        decoder_widths: channels of each step of the decoder, the coarsest first.
        head_kernel: side of the head's kernel in pixels, which must be odd.

    The other attributes are those of `vitjax.models.segmentation.SegmentationModel`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    block_outputs: ClassVar[tuple[str, ...]] = (r"(^|/)output$",)

    norm: Norm = "batch"
    decoder_widths: StageWidths | None = None
    head_kernel: Pixels = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_kernel % 2 == 0:
            raise ConfigError(f"head_kernel={self.head_kernel!r}: it must be odd, to have a centre")
        widths, steps = self._widths(), self._steps()
        if len(widths) != steps:
            raise ConfigError(
                f"decoder_widths={list(widths)!r}: the encoder halves the image {steps} times, and"
                f" these are {len(widths)} steps up"
            )
        check_groups(self.norm, self.norm_groups, widths)

    @abc.abstractmethod
    def make_encoder(self, **keywords: Any) -> Model:
        """The encoder, without a head.

        Args:
            **keywords: Linen's ``name`` or ``parent``.
        """

    @property
    def backbone(self) -> tuple[str, Model]:
        """The encoder, which weights of a classification network can fill."""
        return "encoder", self.make_encoder(parent=None)

    def layer_key(self, name: str) -> tuple[int, ...]:
        """The layers of the encoder, then the decoder as one: it starts without weights."""
        found = _ENCODER.search(name)
        return (0, *self.backbone[1].layer_key(found[1])) if found else (1,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch height width classes"]:
        """Returns the logits of every pixel, or without a head its input.

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
        images = reflect_to_multiple(images, 2 ** self._steps())
        maps = self._maps(self.make_encoder(name="encoder"), images, train)
        conv, norm = self._conv(), self._norm(train)
        stride = max(maps)
        x = maps[stride]
        for step, features in enumerate(self._widths(), start=1):
            x = self._up(features, f"up{step}")(x)
            stride //= 2
            if stride in maps:
                x = jnp.concatenate([maps[stride], x], axis=-1)
            x = DoubleConv(features, conv, norm, name=f"merge{step}")(x)
        x = center_crop(self._logits(x, size=self.head_kernel), height, width)
        self.sow("intermediates", "logits", x)
        return x

    def _maps(self, encoder: Model, images: Array, train: bool) -> dict[int, Array]:
        """The map of each stride that the decoder reads."""
        found = encoder.features(images, train)
        info = encoder.feature_info()
        maps = {each.stride: _centred(found[each.name], each.stride, images) for each in info}
        if len(maps) > 1:
            return maps
        *others, _ = info
        for skip, each in enumerate(reversed(others[-self._steps() :]), start=1):
            x = found[each.name]
            for step in range(skip):
                x = self._up(self._widths()[step], f"skip{skip}_up{step + 1}")(x)
            maps[each.stride // 2**skip] = x
        return maps

    def _widths(self) -> tuple[int, ...]:
        if self.decoder_widths is not None:
            return tuple(self.decoder_widths)
        return tuple(min(16 * 2**step, 256) for step in reversed(range(self._steps())))

    def _steps(self) -> int:
        """The number of times that the encoder halves the image."""
        encoder = self.backbone[1]
        strides = [each.stride for each in encoder.feature_info()]
        if not strides:
            raise ConfigError(f"encoder: a {type(encoder).__name__} has no feature maps")
        if wrong := [stride for stride in strides if stride & (stride - 1)]:
            raise ConfigError(
                f"encoder: its maps have a stride of {wrong[0]} pixels, and each step of the"
                " decoder doubles a map; strides must be powers of 2"
            )
        return max(strides).bit_length() - 1


def _centred(x: Array, stride: int, images: Array) -> Array:
    """A map of the size of the images over its stride, from one without padding or with more."""
    height, width = (side // stride for side in images.shape[1:3])
    x = center_crop(x, min(height, x.shape[1]), min(width, x.shape[2]))
    return zero_pad_to(x, height, width)


class EncoderUNet(EncoderDecoder):
    """A U-Net on any registered model that has feature maps.

    Attributes:
        encoder: ``name``, a registered model, and its fields. ``conv_impl``, ``axis_name`` and the
            dtypes are those of the U-Net unless they are given here.

    The other attributes are those of `EncoderDecoder`.

    Raises:
        ConfigError: at construction, for a value that cannot be used.
    """

    encoder: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "resnet18"})

    @abc.abstractmethod
    def make_encoder(self, **keywords: Any) -> Model:
        """The encoder, without a head; see `EncoderDecoder.make_encoder`."""
        constructor, section = MODELS.from_section(self.encoder, "encoder")
        known = keywords_of(constructor)
        given = {name: getattr(self, name) for name in _SHARED if name in known} | section
        given["num_classes"] = None
        module = functools.partial(constructor, **keywords)
        encoder: Model = call(module, given, where="encoder")
        return encoder

    def replaced(self: Self, **values: Any) -> Self:
        """A copy with those of ``values`` whose fields the U-Net or its encoder declares."""
        copy = super().replaced(**values)
        inner = set(self.backbone[1].field_names()).difference(self.field_names())
        own = {name: value for name, value in values.items() if name in inner | set(self.encoder)}
        return copy.clone(encoder={**self.encoder, **own}) if own else copy

    def layer_counts(self) -> dict[str, Any]:
        """Those of the encoder."""
        return self.backbone[1].layer_counts()

    @property
    def scanned(self) -> bool:
        """Whether the encoder's blocks are stacked in one array."""
        return self.backbone[1].scanned


MODELS.register(
    "unet_encoder",
    image_size=224,
    paper="Ronneberger et al. 2015 (U-Net), arXiv:1505.04597 (decoder)",
    year=2015,
    **IMAGENET,
)(EncoderUNet)
