"""MnasNet of torchvision and timm."""

from __future__ import annotations

import dataclasses

from vitjax.models.mnasnet import MnasNet
from vitjax.weights.layouts.family import Family
from vitjax.weights.layouts.inverted_residual import LAYER, REQUIRED, timm
from vitjax.weights.layouts.target import Construction

_NAMES = ("mnasnet0_5", "mnasnet1_0")
# The places of layers in a sequence, in which each normalisation follows its convolution.
_OUTER = {"stem": 0, "last": 14}
_FIRST = {"depthwise": 3, "project": 6}
_INNER = {"expand": 0, "depthwise": 3, "project": 6}


def _translate(module: MnasNet, name: str) -> str:
    if name == "head":
        return "classifier.1"
    if (found := LAYER.fullmatch(name)) is None:
        part, _, layer = name.partition("/")
        return f"layers.{_OUTER[part] + (layer == 'norm')}"
    stage, part, second = int(found[1]), found[3], found[4] == "norm"
    if stage == 1:  # its layers are not nested
        return f"layers.{_FIRST[part] + second}"
    return f"layers.{stage + 6}.{int(found[2]) - 1}.layers.{_INNER[part] + second}"


def _unversioned(made: Construction, module: MnasNet) -> Construction:
    """The call for files without the version that torchvision's PyTorch files carry."""
    loading = "torchvision.models.MNASNet._load_from_state_dict"
    statements = [
        "import torch",
        *made.imports,
        f"{loading} = torch.nn.Module._load_from_state_dict",
    ]
    remark = "MNASNet asks for the version of a file, which this file does not have."
    return dataclasses.replace(made, imports=statements, remarks=[*made.remarks, remark])


LAYOUTS = (
    Family(
        project="timm",
        model=MnasNet,
        source="timm.models.efficientnet",
        names={"mnasnet0_5": "mnasnet_050", "mnasnet1_0": "mnasnet_100"},
        translate=timm,
        required=REQUIRED,
        forbidden={r"\.se\.": "squeeze-and-excitation"},
    ).layout(),
    Family(
        project="torchvision",
        model=MnasNet,
        source="torchvision.models.mnasnet",
        names={name: name for name in _NAMES},
        translate=_translate,
        required=(r"layers\.0\.weight", r"layers\.8\.0\.layers\.0\.weight", r"layers\.14\.weight"),
        construct=_unversioned,
    ).layout(),
)
