"""ResNeXt, SE-ResNet, SENet, SK-ResNet and ResNeSt of timm, and ResNeXt of torchvision."""

from __future__ import annotations

import re
from typing import Any

from vitjax.models.resnest import ResNeSt
from vitjax.models.resnext import ResNeXt
from vitjax.models.senet import SENet
from vitjax.models.sknet import SKNet
from vitjax.weights.layouts.family import Family, Translate, renamed
from vitjax.weights.layouts.residual import DILATED

_TOP = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}
# Layers within a block.
_CONVS = ((r"conv(\d)/conv", r"conv\1"), (r"conv(\d)/norm", r"bn\1"))
_SHORTCUT = ((r"shortcut/conv", "downsample.0"), (r"shortcut/norm", "downsample.1"))


def _translated(top: dict[str, str], *inside: tuple[str, str]) -> Translate:
    """Translates layers within blocks by patterns, and all others by name."""
    within = renamed(*inside)

    def translate(module: Any, name: str) -> str:
        found = re.fullmatch(r"stage(\d+)_block(\d+)/(.+)", name)
        if found is None:
            return top[name]
        return f"layer{found[1]}.{int(found[2]) - 1}.{within(module, found[3])}"

    return translate


_RESNEXT = _translated(
    _TOP,
    *_CONVS,
    *_SHORTCUT,
    (r"attention/reduce", "se.fc1"),
    (r"attention/expand", "se.fc2"),
)
_SENET = _translated(
    {
        **{f"stem{i}/conv": f"layer0.conv{i}" for i in (1, 2, 3)},
        **{f"stem{i}/norm": f"layer0.bn{i}" for i in (1, 2, 3)},
        "head": "last_linear",
    },
    *_CONVS,
    *_SHORTCUT,
    (r"attention/reduce", "se_module.fc1"),
    (r"attention/expand", "se_module.fc2"),
)
_SKNET = _translated(
    _TOP,
    (r"conv2/path1/conv", "conv2.paths.0.conv"),
    (r"conv2/path1/norm", "conv2.paths.0.bn"),
    (r"conv2/path2/conv", "conv2.paths.1.conv"),
    (r"conv2/path2/norm", "conv2.paths.1.bn"),
    (r"conv2/reduce", "conv2.attn.fc_reduce"),
    (r"conv2/norm", "conv2.attn.bn"),
    (r"conv2/select", "conv2.attn.fc_select"),
    (r"conv(\d)/conv", r"conv\1.conv"),
    (r"conv(\d)/norm", r"conv\1.bn"),
    *_SHORTCUT,
)
_RESNEST = _translated(
    {
        **{f"stem{i}/conv": f"conv1.{3 * (i - 1)}" for i in (1, 2, 3)},
        **{f"stem{i}/norm": f"conv1.{3 * (i - 1) + 1}" for i in (1, 2)},
        "stem3/norm": "bn1",
        "head": "fc",
    },
    (r"conv2/splits/conv", "conv2.conv"),
    (r"conv2/splits/norm", "conv2.bn0"),
    (r"conv2/reduce", "conv2.fc1"),
    (r"conv2/norm", "conv2.bn1"),
    (r"conv2/expand", "conv2.fc2"),
    *_CONVS,
    # After an average pooling, also where that does nothing.
    (r"shortcut/conv", "downsample.1"),
    (r"shortcut/norm", "downsample.2"),
)

_FIRST, _THIRD = r"conv1\.weight", r"layer1\.0\.conv3\.weight"
_RESNEXTS = {name: name for name in ("resnext50_32x4d", "resnext101_32x8d")}

LAYOUTS = (
    Family(
        project="timm",
        model=ResNeXt,
        source="timm.models.resnet",
        names={**_RESNEXTS, "seresnet50": "seresnet50"},
        translate=_RESNEXT,
        required=(_FIRST, _THIRD),
        forbidden=DILATED,
    ).layout(),
    Family(
        project="torchvision",
        model=ResNeXt,
        source="torchvision.models.resnet",
        names=_RESNEXTS,
        translate=_RESNEXT,
        required=(_FIRST, _THIRD),
        forbidden=DILATED,
    ).layout(),
    Family(
        project="timm",
        model=SENet,
        source="timm.models.senet",
        names={"senet154": "legacy_senet154"},
        translate=_SENET,
        required=(r"layer0\.conv3\.weight", r"layer1\.0\.se_module\.fc1\.weight"),
        forbidden=DILATED,
    ).layout(),
    Family(
        project="timm",
        model=SKNet,
        source="timm.models.sknet",
        names={name: name for name in ("skresnet50", "skresnext50_32x4d")},
        translate=_SKNET,
        required=(_FIRST, r"layer1\.0\.conv2\.paths\.0\.conv\.weight"),
        forbidden=DILATED,
    ).layout(),
    Family(
        project="timm",
        model=ResNeSt,
        source="timm.models.resnest",
        names={"resnest50d": "resnest50d"},
        translate=_RESNEST,
        required=(r"conv1\.6\.weight", r"layer1\.0\.conv2\.fc1\.weight"),
        forbidden=DILATED,
    ).layout(),
)
