"""The networks that are timed, in names and numbers; needs neither JAX nor PyTorch."""

from __future__ import annotations

import dataclasses

TIMM_NAMES = {
    "vit_ti16": "vit_tiny_patch16_224",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v2": "mobilenetv2_100",
}
MODELS = (*TIMM_NAMES, "unet")
# What a byte of an image is normalised by, after the division by 255.
MEAN, STD = 0.5, 0.25
# Images of at most this many pixels on a side get ResNet's 3 x 3 stem of stride 1.
SMALL = 64


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its images and how a step is computed.

    Attributes:
        name: vitjax's name of the model.
        patch_size: of a ViT.
        attention: vitjax's implementation; timm has PyTorch's fused one.
        remat: compute activations again in the backward pass, on both sides.
        filters: channels of the first level of a U-Net, whose images have one channel.
        depth: blocks of a ViT; None for the model's own number.
    """

    name: str
    image_size: int
    patch_size: int
    num_classes: int
    batch_size: int
    dtype: str = "float32"
    attention: str = "plain"
    remat: bool = False
    filters: int = 64
    depth: int | None = None

    @property
    def is_vit(self) -> bool:
        """Whether this is a ViT."""
        return self.name.startswith("vit_")

    @property
    def is_unet(self) -> bool:
        """Whether this is a U-Net."""
        return self.name == "unet"

    @property
    def small_stem(self) -> bool:
        """Whether this is a ResNet with the stem for small images."""
        return self.name.startswith("resnet") and self.image_size <= SMALL

    @property
    def peer(self) -> str:
        """Whose network PyTorch trains."""
        return "PyTorch" if self.is_unet else "timm"

    def describe(self) -> str:
        """The network and its images in words, for the table."""
        size = f"{self.image_size}x{self.image_size}"
        name, options = self.name, [size]
        if self.is_unet:
            name = f"unet, {self.filters} channels first"
        elif self.is_vit:
            name = f"{self.name.rstrip('0123456789')}{self.patch_size}"
            options += [f"{self.attention} attention"] if self.attention != "plain" else []
            options += ["remat"] if self.remat else []
        elif self.small_stem:
            name = f"{self.name}, 3x3 stem"
        options += [self.dtype] if self.dtype != "float32" else []
        return ", ".join([name, *options])
