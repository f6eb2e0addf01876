"""Which networks of few-shot learning other projects' code makes, and with which arguments."""

from __future__ import annotations

from typing import Any

from vitjax.models.conv4 import Conv4
from vitjax.models.resnet12 import ResNet12
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.few_shot_fold import LEARN2LEARN_EPSILON, MAML_EPSILONS
from vitjax.weights.layouts.layout import require
from vitjax.weights.layouts.target import (
    Construction,
    Written,
    check_fields,
    needs_head,
    refuse,
)

# The fields that are regarded here; the last ones matter in training alone.
_CONV4 = frozenset(
    {
        *("num_classes", "filters", "depth", "downsample", "stride_padding", "activation"),
        *("pooling", "norm", "norm_groups", "norm_epsilon", "num_context", "context_block"),
        "head_init",
    }
)
_RESNET12 = frozenset({"num_classes", "widths", "pooling", "dropblock_size"})

_HEAD = "params/head/kernel"
_NORMS = {"batch": "batch_norm", "layer": "layer_norm", "none": "None"}
# cbfinn/maml flattens maps of 5 x 5 pixels, of miniImageNet's images, and averages all others.
_MAML_PIXELS = 25
_WIDTHS = (64, 160, 320, 640)


def maml(module: Conv4, written: Written) -> Construction:
    """``MAML`` of cbfinn/maml, whose flags describe the network."""
    project = "cbfinn/maml"
    check_fields(project, module, _CONV4)
    fields: dict[str, Any] = {"depth": 4, "activation": "relu", "num_context": 0}
    require(module, project, **fields)
    if module.norm not in _NORMS:
        require(module, project, norm="batch")
    if module.norm in MAML_EPSILONS:
        require(module, project, norm_epsilon=MAML_EPSILONS[module.norm])
    pooled = module.downsample == "pool"
    if not pooled:
        require(module, project, stride_padding="tensorflow")
    needs_head(project, module)
    flat = module.pooling == "flatten"
    pixels = len(written.arrays[_HEAD]) // module.filters if _HEAD in written.arrays else None
    if flat and pixels not in (None, _MAML_PIXELS):
        raise WeightsError(
            f"{project} flattens maps of 5 x 5 pixels, of images of 84 x 84, and averages over the"
            f" pixels of all others; pooling='flatten' of this Conv4 reads {pixels} pixels"
        )
    channels = 3 if flat else 1
    refuse(
        f"{project} (pooling={module.pooling!r})",
        module,
        {"channels of images": (written.channels, channels)},
    )
    side = written.height or (84 if flat else 28)
    if written.sides is not None and written.height != written.width:
        raise WeightsError(f"{project} takes square images, and this Conv4 takes {written.sides}")
    remarks = [
        f"with the flags --datasource={'miniimagenet' if flat else 'omniglot'}"
        f" --num_filters={module.filters} --norm={_NORMS[module.norm]} --max_pool={pooled}"
        " --conv=True",
        "its dict `weights` has the arrays that are called conv1, b1, ..., w5, b5;"
        " TensorFlow's variables model/0/beta, ... have the others",
    ]
    arguments = {"dim_input": side * side * channels, "dim_output": module.num_outputs}
    load = ["arrays = dict(np.load(PATH))"]
    imports = ["import numpy as np", "from maml import MAML  # maml.py of cbfinn/maml"]
    return Construction("MAML", (), arguments, imports, load, remarks)


def learn2learn(module: Conv4, written: Written) -> Construction:
    """``CNN4`` or, for the mean over strided maps, ``OmniglotCNN`` of learn2learn."""
    project = "learn2learn"
    check_fields(project, module, _CONV4)
    require(module, project, norm="batch", activation="relu", num_context=0)
    require(module, project, norm_epsilon=LEARN2LEARN_EPSILON)
    strided = module.downsample == "stride"
    if strided:
        require(module, project, stride_padding="pytorch")
    needs_head(project, module)
    inputs = len(written.arrays[_HEAD]) if _HEAD in written.arrays else module.filters
    imports = ["from learn2learn.vision import models"]
    common: dict[str, Any] = {"output_size": module.num_outputs, "hidden_size": module.filters}
    common["layers"] = module.depth
    if module.pooling == "mean" and strided:
        refuse(f"{project}'s OmniglotCNN", module, {"channels of images": (written.channels, 1)})
        if written.sides not in (None, (28, 28)):
            raise WeightsError(
                f"{project}'s OmniglotCNN takes images of 28 x 28, and this Conv4 takes"
                f" {written.height} x {written.width}"
            )
        return Construction("models.OmniglotCNN", (), common, imports)
    if module.pooling == "mean" and (written.sides is None or _map(module, written) != (1, 1)):
        raise WeightsError(
            f"{project}'s CNN4 flattens its last map, and this Conv4 has pooling='mean', which is"
            " the same for maps of one pixel only"
        )
    if module.depth not in (3, 4):
        # Its pooling, or stride, is 2 * (4 // layers).
        raise WeightsError(
            f"{project}'s CNN4 halves the map in each of 3 or 4 layers; this Conv4 has"
            f" depth={module.depth}"
        )
    arguments = {
        **common,
        "channels": written.channels,
        "max_pool": not strided,
        "embedding_size": inputs,
    }
    return Construction("models.CNN4", (), arguments, imports)


def _map(module: Conv4, written: Written) -> tuple[int, int]:
    """(height, width) of the last map."""
    assert written.sides is not None
    height, width = written.sides
    for _ in range(module.depth):
        if module.downsample == "pool":
            height, width = height // 2, width // 2
        else:
            height, width = -(-height // 2), -(-width // 2)
    return height, width


def resnet12(module: ResNet12, written: Written) -> Construction:
    """``resnet12`` of kjunelee/MetaOptNet or, with a head, of WangYueFt/rfs."""
    project = "MetaOptNet"
    check_fields(project, module, _RESNET12)
    refuse(
        project,
        module,
        {"widths": (tuple(module.widths), _WIDTHS), "channels of images": (written.channels, 3)},
    )
    if module.num_outputs:
        require(module, "WangYueFt/rfs, whose networks have a head,", pooling="mean")
        arguments = {"avg_pool": True, "num_classes": module.num_outputs}
        imports = ["from models.resnet import resnet12  # of WangYueFt/rfs"]
        return Construction("resnet12", (), arguments, imports)
    if module.pooling == "mean":
        imports = ["from models.resnet import resnet12  # of WangYueFt/rfs"]
        return Construction("resnet12", (), {"avg_pool": True, "num_classes": -1}, imports)
    imports = ["from models.ResNet12_embedding import resnet12  # of kjunelee/MetaOptNet"]
    return Construction("resnet12", (), {"avg_pool": False}, imports)
