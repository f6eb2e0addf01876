"""The layouts of the projects whose files are read and written, one file a family.

Each file has a tuple ``LAYOUTS``; all of them together are `LAYOUTS` here, tried in order.
"""

from vitjax.weights.layouts import (
    bit,
    few_shot,
    resnet,
    unet,
    vit_flax,
    vit_huggingface,
    vit_timm,
    vit_torchvision,
)
from vitjax.weights.layouts.layout import Arrays, Description, Entry, Layout

LAYOUTS: tuple[Layout, ...] = (
    # A U-Net's encoder alone is a residual network to those after it.
    *unet.LAYOUTS,
    *resnet.LAYOUTS,
    *bit.LAYOUTS,
    *few_shot.LAYOUTS,
    *vit_timm.LAYOUTS,
    *vit_torchvision.LAYOUTS,
    *vit_huggingface.LAYOUTS,
    *vit_flax.LAYOUTS,
)

__all__ = ["LAYOUTS", "Arrays", "Description", "Entry", "Layout"]
