"""Relatives of ResNet in timm, and ResNeXt in torchvision."""

from functools import partial

import timm
import torchvision
from timm.models import resnest, resnet, senet, sknet
from torch import nn

from scripts.parity.family import Case, Member

_TIMM = {
    "resnext50_32x4d": "resnext50_32x4d",
    "resnext101_32x8d": "resnext101_32x8d",
    "seresnet50": "seresnet50",
    "senet154": "legacy_senet154",
    "skresnet50": "skresnet50",
    "skresnext50_32x4d": "skresnext50_32x4d",
    "resnest50d": "resnest50d",
}
MEMBERS = [
    *(Member(ours, "timm", partial(timm.create_model, name)) for ours, name in _TIMM.items()),
    *(
        Member(name, "torchvision", getattr(torchvision.models, name))
        for name in ("resnext50_32x4d", "resnext101_32x8d")
    ),
]
_STAGES = {"stage_sizes": [1, 2], "num_classes": 5}
_WATCHED = {r"layer(\d)\.(\d+)": lambda m: f"stage{m[1]}_block{int(m[2]) + 1}/output"}
_SHAPE = (2, 3, 49, 75)  # maps of odd sides, of which poolings leave incomplete windows


def _resnet(block, **arguments):
    """The first two stages: timm's ResNet has four, of which two are taken away."""
    model = resnet.ResNet(block, (1, 2, 1, 1), num_classes=5, **arguments)
    return _cut(model, 128 * block.expansion, "fc")


def _cut(model, width, head):
    model.layer3 = model.layer4 = nn.Identity()
    setattr(model, head, nn.Linear(width, 5))
    return model


def _senet():
    arguments = {"downsample_kernel_size": 3, "downsample_padding": 1, "input_3x3": True}
    model = senet.SENet(
        senet.SEBottleneck, [1, 2, 1, 1], 64, 16, inplanes=128, num_classes=5, **arguments
    )
    return _cut(model, 512, "last_linear")


def _case(ours, build, **fields):
    return Case(ours, "timm", build, {**_STAGES, **fields}, _SHAPE, _WATCHED)


_SPLIT = {"split_input": True}
_COMPLETE = {"rd_divisor": 32, "split_input": False}
_RADIX = {"radix": 2, "avd": True}
CASES = {
    "resnext": _case(
        "resnext50_32x4d",
        partial(_resnet, resnet.Bottleneck, cardinality=32, base_width=4),
    ),
    "seresnet": _case(
        "seresnet50",
        partial(_resnet, resnet.Bottleneck, block_args={"attn_layer": "se"}),
    ),
    "skresnet": _case(
        "skresnet50",
        partial(_resnet, sknet.SelectiveKernelBottleneck, block_args={"sk_kwargs": _SPLIT}),
    ),
    "skresnext": _case(
        "skresnext50_32x4d",
        partial(
            _resnet,
            sknet.SelectiveKernelBottleneck,
            cardinality=32,
            base_width=4,
            block_args={"sk_kwargs": _COMPLETE},
        ),
    ),
    "resnest": _case(
        "resnest50d",
        partial(
            _resnet,
            resnest.ResNestBottleneck,
            stem_type="deep",
            stem_width=32,
            avg_down=True,
            block_args=_RADIX,
        ),
    ),
    "senet": _case("senet154", _senet),
}
