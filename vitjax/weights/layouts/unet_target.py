"""Which U-Nets the constructors of other projects make, and with which arguments."""

from __future__ import annotations

from vitjax.models.unet import UNet, level_widths
from vitjax.models.unet_resnet import UNetResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import require
from vitjax.weights.layouts.target import (
    Construction,
    Written,
    check_fields,
    needs_head,
    refuse,
)

_EPSILON = 1e-5
_WIDTHS = (64, 128, 256, 512, 1024)
# The fields that are regarded here.
_COMMON = {"num_classes", "norm", "norm_groups", "norm_epsilon", "up"}
_UNET = frozenset({*_COMMON, "filters", "depth", "widths", "padding", "attention", "uneven"})
_SMP = frozenset(
    {
        *_COMMON,
        *("stage_sizes", "block", "width", "stem", "decoder_widths", "head_kernel"),
    }
)
_ENCODERS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}


def pytorch_unet(module: UNet, written: Written) -> Construction:
    """``UNet`` of milesial/Pytorch-UNet: four levels, from 64 to 1024 channels."""
    project = "Pytorch-UNet"
    check_fields(project, module, _UNET)
    fields = {"padding": "same", "norm": "batch", "up": "transpose", "attention": False}
    require(module, project, **fields, norm_epsilon=_EPSILON, depth=4)
    widths = level_widths(module.filters, module.depth, module.widths)
    refuse(project, module, {"widths": (widths, _WIDTHS)})
    needs_head(project, module)
    remarks = []
    uneven = written.sides is None or any(side % 16 for side in written.sides)
    if module.uneven == "reflect" and uneven:
        remarks.append(
            "for images whose sides 16 does not divide, this code pads the maps of its decoder with"
            " zeros, and vitjax mirrors the images: the outputs differ"
        )
    arguments = {
        "n_channels": written.channels,
        "n_classes": module.num_outputs,
        "bilinear": False,
    }
    imports = ["from unet import UNet  # the folder unet of milesial/Pytorch-UNet"]
    return Construction("UNet", (), arguments, imports, (), remarks)


def smp(module: UNetResNet, written: Written) -> Construction:
    """``segmentation_models_pytorch.Unet`` on torchvision's residual networks."""
    project = "segmentation_models_pytorch"
    check_fields(project, module, _SMP)
    fields = {"norm": "batch", "up": "nearest", "stem": "imagenet", "head_kernel": 3}
    require(module, project, **fields, norm_epsilon=_EPSILON, width=64)
    needs_head(project, module)
    encoder = _ENCODERS.get((module.block, tuple(module.stage_sizes)))
    if encoder is None:
        raise WeightsError(
            f"{project} has encoders resnet18 to resnet152; this UNetResNet has"
            f" stage_sizes={tuple(module.stage_sizes)} and block={module.block!r}"
        )
    remarks = []
    if written.sides is None or any(side % 32 for side in written.sides):
        remarks.append("this code takes images whose sides 32 divides only")
    arguments = {
        "encoder_name": encoder,
        "encoder_weights": None,
        "decoder_channels": list(module.decoder_widths),
        "in_channels": written.channels,
        "classes": module.num_outputs,
    }
    imports = ["import segmentation_models_pytorch as smp"]
    return Construction("smp.Unet", (), arguments, imports, (), remarks)
