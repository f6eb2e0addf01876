"""Which residual networks the constructors of other projects make, and with which arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitjax.models.resnet import EXPANSION, ResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import require
from vitjax.weights.layouts.target import (
    Code,
    Construction,
    Written,
    check_fields,
    check_sides,
    needs_head,
    refuse,
)

# Of timm's StdConv2d in its BiT networks; google-research/big_transfer has 1e-10.
TIMM_EPSILON = 1e-8
BIT_EPSILON = 1e-10
_BIT_GROUPS = 32

# The fields of a ResNet that are regarded here; the last three matter at initialisation alone.
_FIELDS = frozenset(
    {
        *("stage_sizes", "block", "preactivation", "num_classes", "width", "stem_width"),
        *("bottleneck_factor", "stem", "zero_pool", "shortcut", "norm", "norm_groups"),
        *("standardize_epsilon", "zero_init_residual", "conv_init", "head_init"),
    }
)

_BASIC: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
_BOTTLENECK: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_TIMM_BOTTLENECK: dict[tuple[int, ...], int] = {**_BOTTLENECK, (3, 24, 36, 3): 200}
_TIMM_BIT: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 4, 6, 3), 64): "resnetv2_50x1_bit",
    ((3, 4, 6, 3), 192): "resnetv2_50x3_bit",
    ((3, 4, 23, 3), 64): "resnetv2_101x1_bit",
    ((3, 4, 23, 3), 192): "resnetv2_101x3_bit",
    ((3, 8, 36, 3), 128): "resnetv2_152x2_bit",
    ((3, 8, 36, 3), 256): "resnetv2_152x4_bit",
}
# timm has exactly this many stages, or with pre-activation at most; there it rounds widths.
_TIMM_STAGES = 4
_TIMM_MULTIPLE = 8


def _stages(module: ResNet) -> tuple[int, ...]:
    return tuple(module.stage_sizes)


def _stem_width(module: ResNet) -> int:
    return module.stem_width or module.width


def _factor(module: ResNet) -> int:
    """What multiplies the inner channels; basic blocks have no such factor."""
    return module.bottleneck_factor if module.block == "bottleneck" else 1


def needs_shortcuts(project: str, module: ResNet) -> None:
    """Raises WeightsError for a plain network, whose parameters have the names of option A."""
    if module.shortcut == "none":
        raise WeightsError(
            f"{project} has shortcuts in its residual networks; this {type(module).__name__} has"
            " shortcut='none'"
        )


def torchvision(module: ResNet, written: Written) -> Construction:
    """``torchvision.models.ResNet``: four stages of 64 to 512 channels, RGB, with a head."""
    check_fields("torchvision", module, _FIELDS)
    plain = {"preactivation": False, "shortcut": "projection", "standardize_epsilon": None}
    require(module, "torchvision", **plain, zero_pool=False, stem="imagenet")
    refuse(
        "torchvision",
        module,
        {
            "width": (module.width, 64),
            "stem_width": (_stem_width(module), 64),
            "stages": (len(_stages(module)), 4),
            "channels of images": (written.channels, 3),
        },
    )
    needs_head("torchvision", module)
    arguments: dict[str, Any] = {"num_classes": module.num_outputs}
    imports = ["import torchvision"]
    if module.norm == "group":
        arguments["norm_layer"] = Code(f"partial(nn.GroupNorm, {module.norm_groups})")
        imports = ["from functools import partial", *imports, "from torch import nn"]
    factor = _factor(module)
    known = _BASIC if module.block == "basic" else _BOTTLENECK
    depth = known.get(_stages(module))
    name = f"resnet{depth}" if factor == 1 else f"wide_resnet{depth}_2"
    if depth is not None and (factor == 1 or (factor == 2 and depth in (50, 101))):
        return Construction(f"torchvision.models.{name}", (), arguments, imports)
    block = "BasicBlock" if module.block == "basic" else "Bottleneck"
    if factor != 1:
        arguments["width_per_group"] = 64 * factor
    return Construction(
        "torchvision.models.ResNet",
        (Code(f"torchvision.models.resnet.{block}"), list(_stages(module))),
        arguments,
        imports,
    )


def timm(module: ResNet, written: Written) -> Construction:
    """``timm.create_model`` with the arguments of timm's ``ResNet`` or ``ResNetV2``."""
    check_fields("timm", module, _FIELDS)
    require(module, "timm", shortcut="projection", stem="imagenet")
    stages = len(_stages(module))
    if stages > _TIMM_STAGES or (stages < _TIMM_STAGES and not module.preactivation):
        raise WeightsError(
            f"timm's residual networks have {_TIMM_STAGES} stages, or with pre-activation fewer;"
            f" this ResNet has {stages}"
        )
    common = {"num_classes": module.num_outputs, "in_chans": written.channels}
    return (_timm_v2 if module.preactivation else _timm_v1)(module, common)


def _timm_v1(module: ResNet, arguments: dict[str, Any]) -> Construction:
    require(module, "timm", standardize_epsilon=None, zero_pool=False)
    refuse("timm", module, {"stem_width": (_stem_width(module), 64)})
    basic, stages, factor = module.block == "basic", _stages(module), _factor(module)
    channels = tuple(module.width * 2**stage for stage in range(len(stages)))
    depth = (_BASIC if basic else _TIMM_BOTTLENECK).get(stages)
    if depth is None:
        arguments["layers"] = list(stages)
    depth = depth or (18 if basic else 50)
    if channels != (64, 128, 256, 512):
        arguments["channels"] = list(channels)
    name = f"resnet{depth}"
    if factor == 2 and depth in (50, 101) and "channels" not in arguments:
        name = f"wide_resnet{depth}_2"
    elif factor != 1:
        arguments["base_width"] = 64 * factor
    imports = ["import timm"]
    if module.norm == "group" and module.norm_groups == 32:
        arguments["norm_layer"] = "groupnorm"
    elif module.norm == "group":
        layer = f"partial(timm.layers.GroupNorm, num_groups={module.norm_groups})"
        arguments["norm_layer"] = Code(layer)
        imports = ["from functools import partial", *imports]
    return Construction("timm.create_model", (name,), arguments, imports)


def _timm_v2(module: ResNet, arguments: dict[str, Any]) -> Construction:
    # timm's pre-activation networks with group normalisation are BiT's.
    bit = module.norm == "group"
    require(module, "timm", zero_pool=bit)
    if bit != (module.standardize_epsilon is not None):
        raise WeightsError(
            "timm's pre-activation networks have group normalisation and standardised kernels, or"
            f" neither; this one has norm={module.norm!r} and standardize_epsilon="
            f"{module.standardize_epsilon!r}"
        )
    basic, stages, factor = module.block == "basic", _stages(module), _factor(module)
    expansion = 1 if basic else EXPANSION
    channels = tuple(expansion * module.width * 2**stage for stage in range(len(stages)))
    stem = _stem_width(module)
    widths = (stem, module.width, module.width * factor)
    if any(width % _TIMM_MULTIPLE for width in widths):
        raise WeightsError(
            f"timm rounds the widths of pre-activation networks to multiples of {_TIMM_MULTIPLE},"
            f" and this one has {', '.join(map(str, dict.fromkeys(widths)))}"
        )
    if not basic and stem == channels[0]:
        raise WeightsError(
            f"timm's bottlenecks have a projection in every stage; with stem_width={stem} this"
            " ResNet has none in the first"
        )
    if bit:
        return _timm_bit(module, arguments, channels)
    depth = (_BASIC if basic else _BOTTLENECK).get(stages)
    if depth is None:
        arguments["layers"] = list(stages)
    if channels != tuple(expansion * 64 * 2**stage for stage in range(4)):
        arguments["channels"] = list(channels)
    if stem != 64:
        arguments["stem_chs"] = stem
    if factor != 1:
        arguments["bottle_ratio"] = factor / EXPANSION
    name = f"resnetv2_{depth or (18 if basic else 50)}"
    return Construction("timm.create_model", (name,), arguments, ["import timm"])


def _timm_bit(module: ResNet, arguments: dict[str, Any], channels: tuple[int, ...]) -> Construction:
    """A published name, or the class: the functions of the names accept no other layers."""
    stages, groups, epsilon = _stages(module), module.norm_groups, module.standardize_epsilon
    published = (groups, epsilon, _factor(module)) == (_BIT_GROUPS, TIMM_EPSILON, 1)
    if published and module.block == "bottleneck" and _stem_width(module) == module.width:
        name = _TIMM_BIT.get((stages, module.width))
        if name is not None:
            return Construction("timm.create_model", (name,), arguments, ["import timm"])
    basic = module.block == "basic"
    layers = {
        "norm_layer": Code(f"partial(timm.layers.GroupNormAct, num_groups={groups})"),
        "conv_layer": Code(f"partial(timm.layers.StdConv2d, eps={epsilon})"),
    }
    arguments = {
        "layers": list(stages),
        "channels": list(channels),
        **arguments,
        "stem_chs": _stem_width(module),
        "stem_type": "fixed",
        "basic": basic,
        "bottle_ratio": 1.0 if basic else _factor(module) / EXPANSION,
        **layers,
    }
    imports = ["from functools import partial", "import timm"]
    return Construction("timm.models.ResNetV2", (), arguments, imports)


def pytorch_cifar(module: ResNet, written: Written) -> Construction:
    """The networks of two repositories: option A of three stages, or projections of four."""
    fields = {"preactivation": False, "stem": "cifar", "norm": "batch", "standardize_epsilon": None}
    check_fields("PyTorch code for CIFAR", module, _FIELDS)
    require(module, "PyTorch code for CIFAR", **fields)
    needs_shortcuts("PyTorch code for CIFAR", module)
    needs_head("PyTorch code for CIFAR", module)
    padded = module.shortcut == "pad"
    project = "akamaster/pytorch_resnet_cifar10" if padded else "kuangliu/pytorch-cifar"
    width = 16 if padded else 64
    wrong: dict[str, tuple[Any, Any]] = {
        "stages": (len(_stages(module)), 3 if padded else 4),
        "width": (module.width, width),
        "stem_width": (_stem_width(module), width),
        "bottleneck_factor": (_factor(module), 1),
        "channels of images": (written.channels, 3),
    }
    if padded:
        wrong["block"] = (module.block, "basic")
    refuse(f"{project} (shortcut={module.shortcut!r})", module, wrong)
    if padded:
        check_sides(project, "ResNet", written, square=True)
        return Construction(
            "resnet.ResNet",
            (Code("resnet.BasicBlock"), list(_stages(module))),
            {"num_classes": module.num_outputs},
            [f"import resnet  # resnet.py of {project}"],
        )
    # It averages over the last map in windows of 4 x 4.
    check_sides(project, "ResNet", written, least=25, most=32)
    block = "BasicBlock" if module.block == "basic" else "Bottleneck"
    return Construction(
        "models.resnet.ResNet",
        (Code(f"models.resnet.{block}"), list(_stages(module))),
        {"num_classes": module.num_outputs},
        [f"import models.resnet  # of {project}"],
    )


def wide_resnet(module: ResNet, written: Written) -> Construction:
    """``WideResNet`` of xternalz: three equal stages after a stem of 16 channels."""
    project = "WideResNet-pytorch"
    fields = {"preactivation": True, "stem": "cifar", "norm": "batch", "block": "basic"}
    check_fields(project, module, _FIELDS)
    require(module, project, **fields, shortcut="projection", standardize_epsilon=None)
    needs_head(project, module)
    sizes = _stages(module)
    refuse(
        project,
        module,
        {
            "stages": (len(sizes), 3),
            "stage_sizes": (sizes, (sizes[0],) * len(sizes)),
            "stem_width": (_stem_width(module), 16),
            "the rest of width / 16": (module.width % 16, 0),
            "channels of images": (written.channels, 3),
        },
    )
    # It averages over the last map in windows of 8 x 8.
    check_sides(project, "ResNet", written, least=29, most=32)
    arguments = {
        "depth": 6 * sizes[0] + 4,
        "num_classes": module.num_outputs,
        "widen_factor": module.width // 16,
    }
    imports = ["from wideresnet import WideResNet  # wideresnet.py of xternalz/WideResNet-pytorch"]
    return Construction("WideResNet", (), arguments, imports)


def big_transfer(module: ResNet, written: Written) -> Construction:
    """``ResNetV2`` of google-research/big_transfer's PyTorch code, which reads its ``.npz``."""
    project = "big_transfer"
    check_fields(project, module, _FIELDS)
    fields: Mapping[str, Any] = {
        **{"preactivation": True, "norm": "group", "stem": "imagenet", "block": "bottleneck"},
        **{"shortcut": "projection", "zero_pool": True, "norm_groups": _BIT_GROUPS},
        **{"standardize_epsilon": BIT_EPSILON, "bottleneck_factor": 1},
    }
    require(module, project, **fields)
    needs_head(project, module)
    refuse(
        project,
        module,
        {
            "stages": (len(_stages(module)), 4),
            "stem_width": (_stem_width(module), module.width),
            "the rest of width / 64": (module.width % 64, 0),
            "channels of images": (written.channels, 3),
        },
    )
    return Construction(
        "models.ResNetV2",
        (list(_stages(module)), module.width // 64),
        {"head_size": module.num_outputs},
        ["import numpy as np", "from bit_pytorch import models"],
        ["model.load_from(np.load(PATH))", "model.eval()"],
    )
