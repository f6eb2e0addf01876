"""The layouts of the projects whose files are read and written, one file per family.

Each file has a tuple ``LAYOUTS``; `LAYOUTS` here has all of them. If several explain a file equally
well, the first is taken.
"""

from vitjax.weights.layouts import (
    bit,
    few_shot,
    resnet,
    resnet_keras,
    unet,
    vit_contrastive,
    vit_flax,
    vit_huggingface,
    vit_timm,
    vit_torchvision,
)
from vitjax.weights.layouts.layout import Arrays, Description, Entry, Known, Layout

LAYOUTS: tuple[Layout, ...] = (
    *unet.LAYOUTS,
    *resnet.LAYOUTS,
    *resnet_keras.LAYOUTS,
    *bit.LAYOUTS,
    *few_shot.LAYOUTS,
    *vit_timm.LAYOUTS,
    *vit_torchvision.LAYOUTS,
    *vit_huggingface.LAYOUTS,
    *vit_contrastive.LAYOUTS,
    *vit_flax.LAYOUTS,
)

__all__ = ["LAYOUTS", "Arrays", "Description", "Entry", "Known", "Layout"]
