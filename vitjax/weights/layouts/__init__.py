"""The layouts of the projects whose files are read and written, one file per family.

Each file has a tuple ``LAYOUTS``; `LAYOUTS` here has all of them. If several explain a file equally
well, the first is taken. Those of `families` are found by being there.
"""

import importlib
import itertools
import pkgutil

from vitjax.weights.layouts import (
    bit,
    families,
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

_FAMILIES: tuple[tuple[Layout, ...], ...] = tuple(
    importlib.import_module(f"{families.__name__}.{module.name}").LAYOUTS
    for module in pkgutil.iter_modules(families.__path__)
)

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
    *itertools.chain.from_iterable(_FAMILIES),
)

__all__ = ["LAYOUTS", "Arrays", "Description", "Entry", "Known", "Layout"]
