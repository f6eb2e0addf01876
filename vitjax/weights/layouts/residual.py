"""What layouts of residual networks share: one walk through the network for all names."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from vitjax.models.resnet import EXPANSION, ResNet
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import (
    Arrays,
    Description,
    Entry,
    batch_norm,
    convolution,
    dense,
    norm,
)

# The usual number of groups of group normalisation.
GROUPS = 32

Form = Callable[[str, str], list[Entry]]

# What shows a decoder above dilated convolutions, which no array of the network itself shows.
DILATED = {r"^(aux_classifier\.|classifier\.0\.convs\.)": "dilated convolutions (DeepLab, FCN)"}
# Arrays of relatives of residual networks, and what they are: `ResNet` is none of these.
FORBIDDEN = {
    **DILATED,
    r"\.paths\.\d+\.": "selective kernels (SK-ResNet)",
    r"\.conv\d\.(bn0|fc1|conv)\.": "split attention (ResNeSt)",
    r"\.(convs|bns)\.\d+\.": "convolutions at several scales (Res2Net)",
    r"(^|\.)aa\.|\.filt$": "filters of anti-aliasing",
    r"\.(se|se_module|attn|eca)\.": "attention over channels (SE-ResNet, ECA-ResNet)",
    r"^(encoder\.)?conv1\.\d+\.weight$|^stem\.conv1\.": "several convolutions in its stem",
    r"\.downsample\.2\.": "shortcuts that average before they project (ResNet-D)",
    r"(layer|block|stages\.)\d.*\.conv\d\.bias$": "biases in its convolutions",
}


@dataclasses.dataclass(frozen=True)
class Names:
    """A project's names of the parts of a residual network.

    Attributes:
        block: the name of a block, from its stage and its number in it, both counted from 1.
        convs: of the convolutions in a block, in order.
        norms: of the normalisations in a block, in order.
        shortcut_conv: of a projection.
        shortcut_norm: of a projection's normalisation; not in pre-activation networks.
        stem_conv: of the first convolution.
        stem_norm: of the normalisation after it; not in pre-activation networks.
        final_norm: of the normalisation before the pooling; only in pre-activation networks.
        head: of the last layer.
        within: separates the names of a block and of a layer in it.
        preactivation: whether the networks have pre-activation.
        imagenet: whether the project's own networks are for ImageNet, with a max pooling.
        convolution: the entries of a convolution, from vitjax's and the project's name.
        batch_norm: likewise of batch normalisation.
        group_norm: likewise of group normalisation.
        linear: likewise of the head.
    """

    block: Callable[[int, int], str]
    convs: tuple[str, ...] = ("conv1", "conv2", "conv3")
    norms: tuple[str, ...] = ("bn1", "bn2", "bn3")
    shortcut_conv: str = "downsample.0"
    shortcut_norm: str = "downsample.1"
    stem_conv: str = "conv1"
    stem_norm: str = "bn1"
    final_norm: str = "norm"
    head: str = "fc"
    within: str = "."
    preactivation: bool = False
    imagenet: bool = False
    convolution: Form = convolution
    batch_norm: Form = batch_norm
    group_norm: Form = norm
    linear: Form = dense

    def shape(self, arrays: Arrays, conv: str) -> tuple[int, ...] | None:
        """(height, width, in, out) of a convolution in a file; None if it is missing."""
        (entry,) = self.convolution("", conv)
        (name,) = entry.theirs
        return entry.read(arrays[name])[0].shape if name in arrays else None

    def path(self, stage: int, block: int, layer: str) -> str:
        """The name of a layer in a block."""
        return f"{self.block(stage, block)}{self.within}{layer}"


def entries(names: Names, module: ResNet) -> list[Entry]:
    """The correspondences of a residual network under ``names``."""
    bottleneck = module.block == "bottleneck"
    normal = names.batch_norm if module.norm == "batch" else names.group_norm
    found = names.convolution("stem_conv", names.stem_conv)
    if not names.preactivation:
        found += normal("stem_norm", names.stem_norm)
    before = module.stem_width or module.width
    for stage, blocks in enumerate(module.stage_sizes, start=1):
        after = module.width * 2 ** (stage - 1) * (EXPANSION if bottleneck else 1)
        for block in range(1, blocks + 1):
            ours = f"stage{stage}_block{block}"
            for i in range(3 if bottleneck else 2):
                conv, normalisation = (
                    names.path(stage, block, part[i]) for part in (names.convs, names.norms)
                )
                found += names.convolution(f"{ours}/conv{i + 1}", conv)
                found += normal(f"{ours}/norm{i + 1}", normalisation)
            changes = block == 1 and (stage > 1 or before != after)
            if changes and module.shortcut == "projection":
                shortcut = names.path(stage, block, names.shortcut_conv)
                found += names.convolution(f"{ours}/shortcut_conv", shortcut)
                if not names.preactivation:
                    shortcut = names.path(stage, block, names.shortcut_norm)
                    found += normal(f"{ours}/shortcut_norm", shortcut)
        before = after
    if names.preactivation:
        found += normal("final_norm", names.final_norm)
    head = names.linear("head", names.head)
    return found + [dataclasses.replace(entry, optional=True) for entry in head]


def describe(names: Names, arrays: Arrays) -> Description:
    """What the shapes say of a residual network under ``names``.

    Raises:
        WeightsError: vitjax does not have such a network.
    """
    fields, shape = fields_of(names, arrays), input_shape(names, arrays)
    guessed: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if fields["norm"] == "group" and not names.preactivation:  # those of BiT all have 32
        fields["norm_groups"] = GROUPS
        guessed["norm_groups"] = (
            f"no array shows the number of groups of its normalisation; taken to be {GROUPS}"
        )
    if fields["stem"] == "cifar" and names.imagenet:
        notes = (
            "its first convolution is 3 x 3, and no array shows its stride or whether a max pooling"
            " follows; taken to be stride 1 without pooling, as in networks for CIFAR. A network"
            " that pools there, such as a torchvision ResNet of which only conv1 was replaced,"
            " computes something else",
        )
    # The number of groups has no array, and must divide every width.
    return Description(
        ResNet, fields, shape, guessed=guessed, placeholders={"norm_groups": 1}, notes=notes
    )


def fields_of(names: Names, arrays: Arrays) -> dict[str, Any]:
    """The fields of `ResNet` that the shapes determine.

    Raises:
        WeightsError: vitjax does not have such a network.
    """
    stem = names.shape(arrays, names.stem_conv)
    sizes = _stage_sizes(names, arrays)
    blocks = [
        [
            shape
            for conv in names.convs
            if (shape := names.shape(arrays, names.path(stage, block, conv))) is not None
        ]
        for stage, number in enumerate(sizes, start=1)
        for block in range(1, number + 1)
    ]
    convs = blocks[0] if blocks else []
    if stem is None or len(convs) < 2:
        raise WeightsError("the first convolution, or those of the first block, are missing")
    if any(b[2] < a[3] and a[3] % b[2] == 0 for conv in blocks for a, b in pairwise(conv)):
        raise WeightsError(
            "its convolutions are grouped (ResNeXt), which vitjax's ResNet does not have"
        )
    bottleneck = len(convs) == 3
    width = convs[-1][3] // EXPANSION if bottleneck else convs[-1][3]
    last = [blocks[end - 1][-1][3] for end in itertools.accumulate(sizes)]
    if any(after != 2 * before for before, after in pairwise(last)):
        raise WeightsError(
            f"its stages have {', '.join(map(str, last))} channels; those of a ResNet of vitjax"
            " double from each stage to the next"
        )
    shortcuts = [names.path(stage, 1, names.shortcut_conv) for stage in range(1, len(sizes) + 1)]
    projected = any(names.shape(arrays, name) is not None for name in shortcuts)
    statistics = names.batch_norm("", names.path(1, 1, names.norms[0]))
    (kernel, *_) = names.linear("", names.head)
    (head,) = kernel.theirs
    return {
        "stage_sizes": sizes,
        "block": "bottleneck" if bottleneck else "basic",
        "preactivation": names.preactivation,
        "num_classes": kernel.read(arrays[head])[0].shape[-1] if head in arrays else None,
        "width": width,
        "stem_width": None if stem[3] == width else stem[3],
        "bottleneck_factor": convs[0][3] // width if bottleneck else 1,
        "stem": "imagenet" if stem[0] > 3 else "cifar",
        "shortcut": "projection" if projected or len(sizes) == 1 else "pad",
        "norm": "batch" if all(e.theirs[0] in arrays for e in statistics) else "group",
    }


def input_shape(names: Names, arrays: Arrays) -> tuple[int, int, int]:
    """(height, width, channels) of the papers' images, by the stem in a file."""
    height, _, channels, _ = names.shape(arrays, names.stem_conv) or (0, 0, 0, 0)
    side = 224 if height > 3 else 32
    return side, side, channels


def _stage_sizes(names: Names, arrays: Arrays) -> tuple[int, ...]:
    blocks = (_blocks(names, arrays, stage) for stage in itertools.count(1))
    return tuple(itertools.takewhile(bool, blocks))


def _blocks(names: Names, arrays: Arrays, stage: int) -> int:
    found = 0
    while names.shape(arrays, names.path(stage, found + 1, names.convs[0])) is not None:
        found += 1
    return found
