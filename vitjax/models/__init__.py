"""Linen modules: arrays in, arrays out.

``create("vit_s16", num_classes=10)`` makes one by name; ``names()`` lists them and ``facts(name)``
gives the paper, the image size and the preprocessing. `Model` is the base class of all of them.
Every module of this package is imported, and registers its models.
"""

import importlib
import pkgutil

from vitjax.models.conv4 import Conv4
from vitjax.models.mlp import MLP
from vitjax.models.protocol import FeatureInfo, Model
from vitjax.models.registry import MODELS, count_parameters, create, facts, input_shape, names
from vitjax.models.resnet import ResNet
from vitjax.models.resnet12 import ResNet12
from vitjax.models.unet import UNet
from vitjax.models.unet_encoder import EncoderUNet
from vitjax.models.unet_plus_plus import UNetPlusPlus
from vitjax.models.unet_resnet import UNetResNet
from vitjax.models.vit import ViT
from vitjax.nn.inputs import ImageError
from vitjax.nn.stacking import stack_layers, unstack_layers

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "MLP",
    "MODELS",
    "Conv4",
    "EncoderUNet",
    "FeatureInfo",
    "ImageError",
    "Model",
    "ResNet",
    "ResNet12",
    "UNet",
    "UNetPlusPlus",
    "UNetResNet",
    "ViT",
    "count_parameters",
    "create",
    "facts",
    "input_shape",
    "names",
    "stack_layers",
    "unstack_layers",
]
