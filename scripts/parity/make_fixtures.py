"""Write reference outputs for `tests/models/`, from timm and from PyTorch code of the papers.

    python -m scripts.parity.make_fixtures tests/models/fixtures
    python -m scripts.parity.make_fixtures --full /tmp/full      # whole networks, hundreds of MB

Wants PyTorch, torchvision and timm (the fixtures in the repository: 2.13.0, 0.28.0 and 1.0.31), and
nothing of JAX. A file holds the model's fields, weights and images (numbers of half precision), and
what the reference computes from them in float64: logits and intermediate activations.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.parity import convert
from scripts.parity.paper_networks import SmallImageNet
from scripts.parity.write import write

# torchvision's compiled operators need not match the installed PyTorch. The models use none, but
# importing torchvision wants these two declared, by a library that is kept.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        _LIBRARY.define(f"{_operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
from timm.layers import GroupNormAct, StdConv2d  # noqa: E402
from timm.models import resnet as timm_resnet  # noqa: E402
from timm.models import resnetv2  # noqa: E402

# Model, vitjax's model or class, its fields, image height and width, conversion and hooks.
Case = tuple[str, nn.Module, str, dict[str, Any], tuple[int, int], Callable, Callable]

# timm has 1e-8; google-research/big_transfer, which BiT's weights come from, 1e-10.
StandardizedConv = partial(StdConv2d, eps=1e-10)


def small() -> Iterator[Case]:
    """Networks of a few thousand weights that together go through every option."""
    both = (convert.resnet, convert.watch_resnet)
    shape: dict[str, Any] = {"layers": (2, 1, 1, 1), "num_classes": 5}
    fields = {"stage_sizes": [2, 1, 1, 1], "num_classes": 5, "stem_width": 64, "width": 2}
    channels = (2, 4, 8, 16)
    model = timm_resnet.ResNet(timm_resnet.BasicBlock, channels=channels, **shape)
    yield "resnet_basic", model, "ResNet", {**fields, "block": "basic"}, (33, 26), *both

    model = timm_resnet.ResNet(timm_resnet.Bottleneck, channels=channels, **shape)
    yield "resnet_bottleneck", model, "ResNet", fields, (33, 26), *both

    model = timm_resnet.ResNet(timm_resnet.Bottleneck, channels=channels, base_width=128, **shape)
    yield "wrn_bottleneck", model, "ResNet", {**fields, "bottleneck_factor": 2}, (33, 26), *both

    shape |= {"layers": (2, 1), "channels": (32, 64), "stem_chs": 8}
    fields |= {"stage_sizes": [2, 1], "preactivation": True, "stem_width": 8, "width": 8}
    normal: dict[str, Any] = resnetv2._create_resnetv2.__globals__
    model = resnetv2.ResNetV2(
        conv_layer=normal["create_conv2d"], norm_layer=normal["BatchNormAct2d"], **shape
    )
    yield "resnet_v2", model, "ResNet", fields, (33, 26), *both

    model = resnetv2.ResNetV2(
        stem_type="fixed",
        conv_layer=StandardizedConv,
        norm_layer=partial(GroupNormAct, num_groups=4),
        **shape,
    )
    bit = {"norm": "group", "norm_groups": 4, "standardize_epsilon": 1e-10, "zero_pool": True}
    yield "bit", model, "ResNet", {**fields, **bit}, (33, 26), *both

    cifar: dict[str, Any] = {
        "stage_sizes": [2, 2, 2],
        "block": "basic",
        "stem": "cifar",
        "num_classes": 5,
        "stem_width": 4,
    }
    for option, shortcut in (("A", "pad"), ("B", "projection")):
        fields = {**cifar, "width": 4, "shortcut": shortcut}
        model = SmallImageNet(4, 4, 2, 5, option)
        yield f"cifar_{shortcut}", model, "ResNet", fields, (12, 16), *both
    fields = {**cifar, "width": 6, "preactivation": True}
    yield "wrn_cifar", SmallImageNet(4, 6, 2, 5, "wide"), "ResNet", fields, (12, 16), *both


def full() -> Iterator[Case]:
    """Networks of the papers' sizes on images of 224 x 224 or 32 x 32 pixels."""
    both = (convert.resnet, convert.watch_resnet)
    for name, reference in (
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("resnet152", "resnet152"),
        ("wrn50_2", "wide_resnet50_2"),
    ):
        model = getattr(torchvision.models, reference)()
        yield name, model, name, {}, (224, 224), *both
    for name, reference in (
        ("resnet18_v2", "resnetv2_18"),
        ("resnet50_v2", "resnetv2_50"),
        ("bit_r50x1", "resnetv2_50x1_bit"),
    ):
        model = timm.create_model(reference, num_classes=1000)
        for module in model.modules():
            if isinstance(module, StdConv2d):
                module.eps = 1e-10
        yield name, model, name, {}, (224, 224), *both
    yield "resnet20", SmallImageNet(16, 16, 3, 10, "A"), "resnet20", {}, (32, 32), *both
    yield "wrn28_10", SmallImageNet(16, 160, 4, 10, "wide"), "wrn28_10", {}, (32, 32), *both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="whole networks")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, model, cls, fields, size, weights, watch in full() if arguments.full else small():
        write(
            arguments.folder / f"{name}.npz",
            model,
            {"name": cls, "fields": fields},
            (2, 3, *size),
            weights,
            watch,
            full=arguments.full,
        )


if __name__ == "__main__":
    main()
