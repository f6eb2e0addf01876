"""U-Nets of milesial/Pytorch-UNet and segmentation_models_pytorch."""

from __future__ import annotations

import dataclasses

import numpy as np

from vitjax.models.resnet import EXPANSION
from vitjax.models.unet import UNet, level_widths
from vitjax.models.unet_resnet import UNetResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts import residual, unet_target
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    Known,
    Layout,
    batch_norm,
    convolution,
    count,
    require,
    within,
)
from vitjax.weights.layouts.resnet import TORCHVISION

_IGNORED = (r".*num_batches_tracked$",)

# ------------------------------------------------------------------------------------- Pytorch-UNet


def _unet_blocks(depth: int) -> list[tuple[str, str]]:
    """The name of every block in vitjax and in Pytorch-UNet."""
    down = [("down1", "inc")]
    down += [(f"down{level}", f"down{level - 1}.maxpool_conv.1") for level in range(2, depth + 1)]
    bottom = ("bottom", f"down{depth}.maxpool_conv.1")
    up = [(f"merge{level}", f"up{depth + 1 - level}.conv") for level in range(1, depth + 1)]
    return [*down, bottom, *up]


def _unbiased(ours: str, conv: str, norm: str) -> list[Entry]:
    """Batch normalisation whose mean absorbs the bias of the convolution before it."""
    mean = f"batch_stats/{ours}/mean"
    others = [entry for entry in batch_norm(ours, norm) if entry.ours != (mean,)]
    names = (f"{norm}.running_mean", f"{conv}.bias")
    # In float64, since the difference of half-precision numbers needs more digits.
    read = lambda running, bias: (running.astype(np.float64) - bias,)  # noqa: E731
    return [*others, Entry((mean,), names, read)]


def _unet_entries(module: UNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"padding": "same", "norm": "batch", "up": "transpose", "attention": False}
    require(module, "Pytorch-UNet", **fields, norm_epsilon=1e-5)
    found = []
    for ours, theirs in _unet_blocks(module.depth):
        for i, place in ((1, 0), (2, 3)):
            conv, norm = (f"{theirs}.double_conv.{place + part}" for part in (0, 1))
            found += convolution(f"{ours}/conv{i}", conv)
            # Before 2022 its convolutions had biases, which the normalisation cancels.
            biased = arrays is not None and f"{conv}.bias" in arrays
            norms = _unbiased if biased else lambda ours, conv, norm: batch_norm(ours, norm)
            found += norms(f"{ours}/norm{i}", conv, norm)
    for level in range(1, module.depth + 1):
        up = f"up{module.depth + 1 - level}.up"
        # A transposed convolution's kernel has its inputs first.
        kernel = Entry(
            (f"params/up{level}/kernel",),
            (f"{up}.weight",),
            lambda x: (x.transpose(2, 3, 0, 1),),
            lambda x: (x.transpose(2, 3, 0, 1),),
        )
        found += [kernel, Entry((f"params/up{level}/bias",), (f"{up}.bias",))]
    return found + convolution("head", "outc.conv", bias=True, optional=True)


def _describe_unet(arrays: Arrays, known: Known) -> Description:
    depth = count(arrays, r"up(\d+)\.") - 1
    if "up1.up.weight" not in arrays:
        raise WeightsError(
            "it upsamples bilinearly with aligned corners, which no model of vitjax does"
        )
    first = [arrays[f"{name}.double_conv.0.weight"] for _, name in _unet_blocks(depth)[: depth + 1]]
    widths = tuple(weight.shape[0] for weight in first)
    doubled = widths == level_widths(widths[0], depth, None)
    channels, head = first[0].shape[1], arrays.get("outc.conv.weight")
    fields = {
        "depth": depth,
        "filters": widths[0],
        "widths": None if doubled else widths,
        "num_classes": None if head is None else head.shape[0],
        "norm": "batch",
        "uneven": "zeros",
    }
    return Description(UNet, fields, (512, 512, channels))


# ---------------------------------------------------------------------- segmentation_models_pytorch


def _smp_entries(module: UNetResNet, arrays: Arrays | None) -> list[Entry]:
    fields = {"norm": "batch", "up": "nearest", "stem": "imagenet", "head_kernel": 3}
    require(module, "segmentation_models_pytorch", **fields, norm_epsilon=1e-5)
    part, encoder = module.backbone
    found = within(residual.entries(TORCHVISION, encoder), part, "encoder.")
    found = [entry for entry in found if "/head/" not in entry.ours[0]]
    below = encoder.width * 2 ** (len(encoder.stage_sizes) - 1)
    below *= EXPANSION if encoder.block == "bottleneck" else 1
    for step, width in enumerate(module.decoder_widths, start=1):
        for i in (1, 2):
            ours, theirs = f"merge{step}", f"decoder.blocks.{step - 1}.conv{i}"
            conv = convolution(f"{ours}/conv{i}", f"{theirs}.0")
            found += [_turned(entry, below) for entry in conv] if i == 1 else conv
            found += batch_norm(f"{ours}/norm{i}", f"{theirs}.1")
        below = width
    return found + convolution("head", "segmentation_head.0", bias=True, optional=True)


def _turned(entry: Entry, below: int) -> Entry:
    """A kernel whose inputs are in another order.

    The ``below`` channels of the coarser map are first in the project, and last in vitjax.
    """

    def read(weight: np.ndarray) -> tuple[np.ndarray, ...]:
        (kernel,) = entry.read(weight)
        return (np.concatenate([kernel[:, :, below:], kernel[:, :, :below]], axis=2),)

    def write(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
        skip = kernel.shape[2] - below
        return entry.write(np.concatenate([kernel[:, :, skip:], kernel[:, :, :skip]], axis=2))

    return dataclasses.replace(entry, read=read, write=write)


def _describe_smp(arrays: Arrays, known: Known) -> Description:
    if "encoder.layer1.0.conv1.weight" not in arrays:
        raise WeightsError("its encoder is no ResNet of torchvision's, which a UNetResNet needs")
    encoder = {k.removeprefix("encoder."): v for k, v in arrays.items() if k.startswith("encoder.")}
    fields = residual.fields_of(TORCHVISION, encoder)
    if fields["bottleneck_factor"] != 1:
        raise WeightsError("its encoder is a wide ResNet, which no UNetResNet has")
    steps = count(arrays, r"decoder\.blocks\.(\d+)\.")
    head = arrays.get("segmentation_head.0.weight")
    return Description(
        UNetResNet,
        {
            "stage_sizes": fields["stage_sizes"],
            "block": fields["block"],
            "width": fields["width"],
            "stem": fields["stem"],
            "norm": "batch",
            "up": "nearest",
            "decoder_widths": tuple(
                arrays[f"decoder.blocks.{step}.conv1.0.weight"].shape[0] for step in range(steps)
            ),
            "head_kernel": 3 if head is None else head.shape[2],
            "num_classes": None if head is None else head.shape[0],
        },
        residual.input_shape(TORCHVISION, encoder),
    )


LAYOUTS = (
    Layout(
        name="pytorch-unet",
        modules=(UNet,),
        source="milesial/Pytorch-UNet",
        required=(r"inc\.double_conv\.0\.weight", r"down1\.maxpool_conv\..*"),
        describe=_describe_unet,
        entries=_unet_entries,
        target=unet_target.pytorch_unet,
        ignored=_IGNORED,
        suffix=".pth",
    ),
    Layout(
        name="smp",
        modules=(UNetResNet,),
        source="segmentation_models_pytorch.Unet",
        required=(
            r"encoder\..*",
            r"decoder\.blocks\..*",
            r"segmentation_head\.0\.weight",
        ),
        forbidden={
            **residual.FORBIDDEN,
            r"^decoder\.blocks\.\d+\.attention\d": "attention in its decoder (scSE)",
            r"^decoder\.center\.": "a block between encoder and decoder",
            r"^decoder\.blocks\.\d+\.conv1\.0\.bias": "no normalisation in its decoder",
            r"^decoder\.blocks\.x_": "the decoder of U-Net++",
        },
        describe=_describe_smp,
        entries=_smp_entries,
        target=unet_target.smp,
        ignored=_IGNORED,
    ),
)
