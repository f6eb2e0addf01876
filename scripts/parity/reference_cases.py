"""The convolutional networks of other projects that vitjax's are compared with."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from scripts.parity.few_shot_networks import MLP, Learn2LearnConv4, MamlConv4, ResNet12
from scripts.parity.paper_networks import SmallResNet, WideResNet
from scripts.parity.unet_networks import NamedUNet, ResNetUNet, UNet, UNetPlusPlus

# torchvision's compiled operators need not match the installed PyTorch. The models use none, but
# importing torchvision wants these two declared, by a library that is kept.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        _LIBRARY.define(f"{_operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import segmentation_models_pytorch as smp  # noqa: E402
import timm  # noqa: E402
import torchvision  # noqa: E402
from segmentation_models_pytorch.base import SegmentationHead  # noqa: E402
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder  # noqa: E402
from timm.layers import BatchNormAct2d, GroupNormAct, StdConv2d, create_conv2d  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402

# Names of a reference's modules, as patterns, and of vitjax's activations.
TORCHVISION = {
    r"relu": "unpooled",
    r"act1": "unpooled",
    r"maxpool": "stem",
    r"layer(\d)": r"stage\1",
    r"layer(\d)\.(\d+)": lambda m: f"stage{m[1]}_block{int(m[2]) + 1}/output",
}
SMALL_IMAGES = {**TORCHVISION, r"relu": "stem"}
TIMM_V2 = {
    r"stem\.conv": "unpooled",
    r"stem": "stem",
    r"stages\.(\d)\.blocks\.(\d+)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output",
    r"norm": "stage4",
}
WIDE = {
    r"conv1": "stem",
    r"block(\d)\.layer\.(\d+)": lambda m: f"stage{m[1]}_block{int(m[2]) + 1}/output",
    r"relu": "stage3",
}
RESNET12 = {r"layer(\d)": r"stage\1"}
SMP = {
    r"encoder\.layer(\d)": r"encoder/stage\1",
    r"encoder\.layer(\d)\.(\d+)": lambda m: f"encoder/stage{m[1]}_block{int(m[2]) + 1}/output",
    r"decoder\.blocks\.(\d)": lambda m: f"merge{int(m[1]) + 1}/output",
}


@dataclasses.dataclass
class Case:
    """A reference, and what it is in vitjax.

    Attributes:
        reference: what a table calls it.
        model: a PyTorch module.
        ours: a name in `vitjax.models.names`, or a class.
        fields: of vitjax's module.
        shape: of the inputs, as PyTorch has it.
        format: whose names the weights have; ``"vitjax"`` for modules with vitjax's own.
        suffix: of the file of weights.
        watched: patterns of modules and names of activations.
        train: normalise by the batch's statistics.
        scale: of the images.
        channels_first: whether the model's outputs are images, channels first.
        state: brings the model's state dict to what is saved, or None.
        inferred: whether vitjax's module is to be found out from the file, ``fields`` apart.
        grid: (rows, columns) of patches, where the file does not tell.
    """

    reference: str
    model: nn.Module
    ours: str
    fields: dict[str, Any]
    shape: tuple[int, ...]
    format: str
    suffix: str = ".safetensors"
    watched: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: bool = False
    scale: float = 1.0
    channels_first: bool = False
    state: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None
    inferred: bool = False
    grid: tuple[int, int] | None = None


Build = Callable[[], Case]
IMAGES = (2, 3, 64, 64)
SMALL_SHAPE = (2, 3, 32, 32)


def _torchvision(name: str, ours: str) -> Case:
    model = getattr(torchvision.models, name)()
    kind = ("torchvision", ".pth", TORCHVISION)
    return Case(f"torchvision `{name}`", model, ours, {}, IMAGES, *kind)


def _timm(name: str, ours: str, **fields: Any) -> Case:
    # Nothing of a file tells it from torchvision's.
    model = timm.create_model(name)
    return Case(f"timm `{name}`", model, ours, fields, IMAGES, "torchvision", watched=TORCHVISION)


def _v2(sizes: tuple[int, ...], ours: str, name: str | None) -> Case:
    if name:
        model, reference = timm.create_model(name), f"timm `{name}`"
    else:
        model = ResNetV2(sizes, conv_layer=create_conv2d, norm_layer=BatchNormAct2d)
        reference = f"timm `ResNetV2({list(sizes)})`"
    return Case(reference, model, ours, {}, IMAGES, "timm", watched=TIMM_V2)


def _bit(ours: str, sizes: tuple[int, ...], factor: int, cut: bool = False) -> Case:
    # timm has 1e-8; google-research/big_transfer, which BiT's weights come from, 1e-10.
    model = ResNetV2(
        sizes,
        width_factor=factor,
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-10),
        norm_layer=partial(GroupNormAct, num_groups=32),
    )
    name = f"resnetv2_{ours.removeprefix('bit_r')}_bit"
    reference = f"timm `{name}`, epsilon 1e-10" + (f", stages {list(sizes)}" if cut else "")
    fields: dict[str, Any] = {"stage_sizes": list(sizes)} if cut else {}
    # The stem's standardised kernel multiplies by twelve.
    return Case(reference, model, ours, fields, IMAGES, "timm", watched=TIMM_V2, scale=0.1)


def _cifar(depth: int) -> Case:
    model = SmallResNet(16, 16, ((depth - 2) // 6,) * 3, 10, "A")
    kind = ("pytorch-cifar", ".th", SMALL_IMAGES)
    reference = "the paper's, as in pytorch_resnet_cifar10"
    return Case(reference, model, f"resnet{depth}", {}, SMALL_SHAPE, *kind)


def _kuangliu(depth: int, sizes: tuple[int, ...], bottleneck: bool) -> Case:
    model = SmallResNet(64, 64, sizes, 10, "B", bottleneck)
    fields = {"stem": "cifar", "num_classes": 10}
    kind = ("pytorch-cifar", ".pth", SMALL_IMAGES)
    reference = "the paper's, as in pytorch-cifar"
    return Case(reference, model, f"resnet{depth}", fields, SMALL_SHAPE, *kind)


def _wide(depth: int, factor: int) -> Case:
    model = WideResNet(16, 16 * factor, (depth - 4) // 6, 10)
    kind = ("wideresnet-pytorch", ".pt", WIDE)
    reference = "the paper's, as in WideResNet-pytorch"
    return Case(reference, model, f"wrn{depth}_{factor}", {}, SMALL_SHAPE, *kind)


def _maml(ours: str) -> Case:
    omniglot, strided = ours != "conv4", ours == "conv4_omniglot"
    sizes = (1, 64, 5, 64) if omniglot else (3, 32, 5, 800)
    shape = (10, 1, 28, 28) if omniglot else (10, 3, 84, 84)
    kind = ("maml", ".weights.npz")
    reference = "the paper's, as in cbfinn/maml; batch statistics"
    return Case(reference, MamlConv4(*sizes, strided), ours, {}, shape, *kind, train=True)


def _learn2learn(strided: bool) -> Case:
    sizes = (1, 64, 5, 64) if strided else (3, 32, 5, 800)
    shape = (4, 1, 28, 28) if strided else (4, 3, 84, 84)
    name = "OmniglotCNN" if strided else "CNN4"
    fields: dict[str, Any] = {"norm_epsilon": 1e-5}
    fields |= {"stride_padding": "pytorch"} if strided else {}
    ours = "conv4_omniglot" if strided else "conv4"
    model = Learn2LearnConv4(*sizes, strided)
    return Case(f"as learn2learn's `{name}`", model, ours, fields, shape, "learn2learn", ".pth")


def _mlp(ours: str) -> Case:
    if ours == "mlp_omniglot":
        model = MLP(784, (256, 128, 64, 64), 5, norm="batch")
        return Case("the paper's, in PyTorch", model, ours, {}, (10, 1, 28, 28), "vitjax")
    return Case("the paper's, in PyTorch", MLP(1, (40, 40), 1), ours, {}, (10, 1), "vitjax")


def _resnet12() -> Case:
    model = ResNet12((64, 160, 320, 640), 5)
    kind = ("metaoptnet", ".pth", RESNET12)
    reference = "the paper's, as in kjunelee/MetaOptNet and WangYueFt/rfs"
    return Case(reference, model, "resnet12", {}, (2, 3, 84, 84), *kind)


def _unet() -> Case:
    model = NamedUNet(1, (64, 128, 256, 512, 1024), 2)
    kind = ("pytorch-unet", ".pth")
    return Case("as milesial/Pytorch-UNet", model, "unet", {}, (1, 1, 64, 96), *kind)


def _own_unet(ours: str) -> Case:
    widths = (64, 128, 256, 512, 1024)
    model: nn.Module
    if ours == "unet_valid":
        model, shape = UNet(1, widths, 2, valid=True), (1, 1, 188, 204)
    elif ours == "unet_attention":
        model, shape = UNet(1, widths, 2, norm="batch", attention=True), (1, 1, 64, 96)
    else:
        model, shape = UNetPlusPlus(3, (32, 64, 128, 256, 512), 2), (1, 3, 64, 96)
    return Case("the paper's, in PyTorch", model, ours, {}, shape, "vitjax")


def _resnet_unet(depth: int) -> Case:
    encoder = getattr(torchvision.models, f"resnet{depth}")()
    model = ResNetUNet(encoder, (256, 128, 64, 32, 16), 2)
    reference = f"torchvision `resnet{depth}`, the way up in PyTorch"
    return Case(reference, model, f"unet_resnet{depth}", {}, (1, 3, 64, 96), "vitjax")


def _smp(depth: int) -> Case:
    model = smp.Unet(f"resnet{depth}", encoder_weights=None, classes=2)
    fields = {"up": "nearest", "head_kernel": 3}
    reference = f"smp `Unet('resnet{depth}')`"
    ours, kind = f"unet_resnet{depth}", ("smp", ".safetensors", SMP)
    return Case(reference, model, ours, fields, (1, 3, 64, 96), *kind, channels_first=True)


_SIZES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
CASES: dict[str, Build] = {
    **{f"resnet{d}": partial(_torchvision, f"resnet{d}", f"resnet{d}") for d in (18, 34, 50)},
    **{f"resnet{d}": partial(_torchvision, f"resnet{d}", f"resnet{d}") for d in (101, 152)},
    "resnet200": partial(_timm, "resnet200", "resnet200"),
    **{f"wrn{d}_2": partial(_torchvision, f"wide_resnet{d}_2", f"wrn{d}_2") for d in (50, 101)},
    "timm_resnet50": partial(_timm, "resnet50", "resnet50"),
    "resnet50_gn": partial(_timm, "resnet50_gn", "resnet50", norm="group"),
    **{
        f"resnet{d}_v2": partial(_v2, s, f"resnet{d}_v2", f"resnetv2_{d}" if d < 200 else None)
        for d, s in _SIZES.items()
    },
    **{f"resnet{d}": partial(_cifar, d) for d in (20, 32, 44, 56, 110)},
    "cifar_resnet18": partial(_kuangliu, 18, _SIZES[18], False),
    "cifar_resnet50": partial(_kuangliu, 50, _SIZES[50], True),
    **{f"wrn{d}_{f}": partial(_wide, d, f) for d, f in ((28, 10), (16, 8), (40, 2))},
    **{f"bit_r{d}x1": partial(_bit, f"bit_r{d}x1", _SIZES[d], 1) for d in (50, 101)},
    # Of 217 to 937 million parameters, fewer blocks leave 80 to 140 million.
    "bit_r50x3": partial(_bit, "bit_r50x3", (2, 2, 2, 1), 3, cut=True),
    "bit_r101x3": partial(_bit, "bit_r101x3", (2, 2, 4, 1), 3, cut=True),
    "bit_r152x2": partial(_bit, "bit_r152x2", (2, 4, 12, 2), 2, cut=True),
    "bit_r152x4": partial(_bit, "bit_r152x4", (1, 1, 1, 1), 4, cut=True),
    **{ours: partial(_maml, ours) for ours in ("conv4", "conv4_omniglot", "conv4_omniglot_pooled")},
    "learn2learn_cnn4": partial(_learn2learn, False),
    "learn2learn_omniglot": partial(_learn2learn, True),
    **{ours: partial(_mlp, ours) for ours in ("mlp_omniglot", "mlp_sinusoid")},
    "resnet12": _resnet12,
    "unet": _unet,
    **{o: partial(_own_unet, o) for o in ("unet_valid", "unet_attention", "unet_plus_plus")},
    **{f"unet_resnet{d}": partial(_resnet_unet, d) for d in (18, 34, 50)},
    **{f"smp_resnet{d}": partial(_smp, d) for d in (18, 34, 50)},
}


# ------------------------------------------------------------- networks of a few thousand weights


def _narrow(block: Any, sizes: tuple[int, ...], width: int, stem: int, factor: int = 1) -> ResNet:
    """The network of torchvision, its own blocks and all, with few channels."""
    model = ResNet(block, [1, 1, 1, 1], width_per_group=64 * factor)
    model.inplanes = stem
    model.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
    model.bn1 = nn.BatchNorm2d(stem)
    for stage, count in enumerate(sizes):
        layer = model._make_layer(block, width * 2**stage, count, stride=2 if stage else 1)
        setattr(model, f"layer{stage + 1}", layer)
    model.fc = nn.Linear(width * 2 ** (len(sizes) - 1) * block.expansion, 5)
    return model


class NarrowUnet(nn.Module):
    """smp's way up and head on torchvision's network with few channels, under smp's names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _narrow(BasicBlock, (1, 1, 1, 1), 2, 2)
        self.encoder.fc = nn.Identity()
        channels = (3, 2, 2, 4, 8, 16)
        self.decoder = UnetDecoder(channels, (8, 6, 4, 3, 2), 5)
        self.segmentation_head = SegmentationHead(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        encoder, maps = self.encoder, [x]
        maps.append(encoder.relu(encoder.bn1(encoder.conv1(x))))
        x = encoder.maxpool(maps[-1])
        for stage in range(1, 5):
            x = getattr(encoder, f"layer{stage}")(x)
            maps.append(x)
        return self.segmentation_head(self.decoder(maps))


_NARROW = {"stage_sizes": [1, 2, 1, 1], "stem_width": 4, "num_classes": 5}


def _small_v1(block: Any, factor: int) -> Case:
    basic = block is BasicBlock
    model = _narrow(block, (1, 2, 1, 1), 2 if basic else 1, 4, factor)
    fields = {**_NARROW, "block": "basic" if basic else "bottleneck"}
    fields |= {"width": 2 if basic else 1, "bottleneck_factor": factor}
    kind = ("torchvision", ".pth" if basic else ".safetensors", TORCHVISION)
    return Case("torchvision", model, "ResNet", fields, (2, 3, 17, 20), *kind)


_PREACTIVATION = {
    "stage_sizes": [2, 1],
    "preactivation": True,
    "width": 8,
    "stem_width": 8,
    "num_classes": 5,
}
_NARROW_V2: dict[str, Any] = {"layers": (2, 1), "channels": (32, 64), "stem_chs": 8}
_NARROW_V2 |= {"num_classes": 5}
_WATCHED_V2 = {**TIMM_V2, r"norm": "stage2"}


def _small_v2(basic: bool) -> Case:
    options = {**_NARROW_V2, "basic": basic}
    if basic:
        options |= {"channels": (8, 16), "bottle_ratio": 1.0}
    model = ResNetV2(conv_layer=create_conv2d, norm_layer=BatchNormAct2d, **options)
    fields = {**_PREACTIVATION, "block": "basic" if basic else "bottleneck"}
    return Case("timm", model, "ResNet", fields, (2, 3, 17, 20), "timm", watched=_WATCHED_V2)


def _small_bit(format: str) -> Case:
    model = ResNetV2(
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8 if format == "timm" else 1e-10),
        norm_layer=partial(GroupNormAct, num_groups=4),
        **_NARROW_V2,
    )
    fields = {**_PREACTIVATION, "norm": "group", "norm_groups": 4, "zero_pool": True}
    fields["standardize_epsilon"] = 1e-8 if format == "timm" else 1e-10
    kind = (format, ".safetensors" if format == "timm" else ".weights.npz", _WATCHED_V2)
    return Case("timm", model, "ResNet", fields, (2, 3, 17, 20), *kind, scale=0.1)


_CIFAR = {"stage_sizes": [1, 2], "block": "basic", "stem": "cifar", "num_classes": 5}


def _small_cifar(option: str, bottleneck: bool) -> Case:
    model = SmallResNet(4, 4, (1, 2), 5, option, bottleneck)
    fields = {**_CIFAR, "width": 4, "shortcut": "pad" if option == "A" else "projection"}
    fields["block"] = "bottleneck" if bottleneck else "basic"
    kind = ("pytorch-cifar", ".safetensors", SMALL_IMAGES)
    return Case("pytorch-cifar", model, "ResNet", fields, (2, 3, 8, 6), *kind)


def _small_wide() -> Case:
    fields = {**_CIFAR, "width": 4, "stem_width": 2, "preactivation": True}
    fields["stage_sizes"] = [2, 2, 2]
    kind = ("wideresnet-pytorch", ".safetensors", WIDE)
    model = WideResNet(2, 4, 2, 5)
    return Case("WideResNet-pytorch", model, "ResNet", fields, (2, 3, 8, 6), *kind)


def _small_maml(strided: bool) -> Case:
    fields: dict[str, Any] = {"filters": 4, "num_classes": 5}
    if strided:
        fields |= {"downsample": "stride", "pooling": "mean"}
        model, shape = MamlConv4(1, 4, 5, 4, True), (6, 1, 28, 28)
    else:
        model, shape = MamlConv4(3, 4, 5, 16, False), (6, 3, 32, 32)
    return Case("maml", model, "Conv4", fields, shape, "maml", ".weights.npz", train=True)


def _small_learn2learn(strided: bool) -> Case:
    fields: dict[str, Any] = {"filters": 4, "num_classes": 5, "norm_epsilon": 1e-5}
    if strided:
        fields |= {"downsample": "stride", "stride_padding": "pytorch", "pooling": "mean"}
    shape = (2, 1, 28, 28) if strided else (2, 3, 32, 32)
    model = Learn2LearnConv4(shape[1], 4, 5, 4 if strided else 16, strided)
    return Case("learn2learn", model, "Conv4", fields, shape, "learn2learn")


def _small_resnet12(pixels: int) -> Case:
    widths = (3, 4, 5, 6)
    fields = {"widths": list(widths), "num_classes": 5, "pooling": "flatten" if pixels else "mean"}
    kind = ("metaoptnet", ".safetensors", RESNET12)
    model = ResNet12(widths, 5, pixels)
    return Case("metaoptnet", model, "ResNet12", fields, (2, 3, 35, 35), *kind)


def _small_unet(bias: bool) -> Case:
    model = NamedUNet(3, (2, 4, 8), 3, bias)
    fields = {"filters": 2, "depth": 2, "num_classes": 3, "norm": "batch"}
    return Case(
        "pytorch-unet", model, "UNet", {**fields, "uneven": "zeros"}, (2, 3, 16, 20), "pytorch-unet"
    )


def _small_smp() -> Case:
    fields = {"stage_sizes": [1, 1, 1, 1], "width": 2, "num_classes": 3, "up": "nearest"}
    fields |= {"decoder_widths": [8, 6, 4, 3, 2], "head_kernel": 3}
    kind = ("smp", ".safetensors", SMP)
    shape = (1, 3, 32, 64)
    return Case("smp", NarrowUnet(), "UNetResNet", fields, shape, *kind, channels_first=True)


SMALL: dict[str, Build] = {
    "torchvision_basic": partial(_small_v1, BasicBlock, 1),
    "torchvision_wide": partial(_small_v1, Bottleneck, 2),
    "timm_v2_basic": partial(_small_v2, True),
    "timm_v2_bottleneck": partial(_small_v2, False),
    "timm_bit": partial(_small_bit, "timm"),
    "npz_bit": partial(_small_bit, "npz"),
    "cifar_a": partial(_small_cifar, "A", False),
    "cifar_b": partial(_small_cifar, "B", True),
    "wide": _small_wide,
    "maml_strided": partial(_small_maml, True),
    "maml_pooled": partial(_small_maml, False),
    "learn2learn_strided": partial(_small_learn2learn, True),
    "learn2learn_pooled": partial(_small_learn2learn, False),
    "resnet12_mean": partial(_small_resnet12, 0),
    "resnet12_flat": partial(_small_resnet12, 4),
    "unet": partial(_small_unet, False),
    "unet_biased": partial(_small_unet, True),
    "smp": _small_smp,
}
