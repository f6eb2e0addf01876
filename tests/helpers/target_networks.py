"""What other projects' constructors make: names and shapes of the arrays, from their arguments.

Written from the projects' published code, each as a function of the arguments that its constructor
has; vitjax is not involved. Running statistics' counters, which PyTorch adds itself, are left out.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def conv(name: str, out: int, into: int, size: int, bias: bool = False) -> Shapes:
    return {f"{name}.weight": (out, into, size, size)} | ({f"{name}.bias": (out,)} if bias else {})


def batch_norm(name: str, width: int) -> Shapes:
    return {f"{name}.{x}": (width,) for x in ("weight", "bias", "running_mean", "running_var")}


def affine(name: str, width: int) -> Shapes:
    """A group or layer normalisation."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


# ------------------------------------------------------------------------------------- torchvision


def torchvision_resnet(
    block: str,
    layers: Sequence[int],
    num_classes: int = 1000,
    width_per_group: int = 64,
    norm_layer: Callable[[str, int], Shapes] = batch_norm,
) -> Shapes:
    """``torchvision.models.ResNet``: it indexes layers[0] to layers[3], and its stem is fixed."""
    expansion = 1 if block == "BasicBlock" else 4
    assert block == "Bottleneck" or width_per_group == 64
    found = conv("conv1", 64, 3, 7) | norm_layer("bn1", 64)
    before = 64
    for stage, planes in enumerate((64, 128, 256, 512)):
        for i in range(layers[stage]):
            name, after = f"layer{stage + 1}.{i}", planes * expansion
            if block == "BasicBlock":
                found |= conv(f"{name}.conv1", planes, before, 3) | norm_layer(
                    f"{name}.bn1", planes
                )
                found |= conv(f"{name}.conv2", planes, planes, 3) | norm_layer(
                    f"{name}.bn2", planes
                )
            else:
                inner = int(planes * (width_per_group / 64.0))
                found |= conv(f"{name}.conv1", inner, before, 1) | norm_layer(f"{name}.bn1", inner)
                found |= conv(f"{name}.conv2", inner, inner, 3) | norm_layer(f"{name}.bn2", inner)
                found |= conv(f"{name}.conv3", after, inner, 1) | norm_layer(f"{name}.bn3", after)
            if i == 0 and (stage > 0 or before != after):
                found |= conv(f"{name}.downsample.0", after, before, 1)
                found |= norm_layer(f"{name}.downsample.1", after)
            before = after
    return found | linear("fc", num_classes, before)


def torchvision_vit(
    image_size: int,
    patch_size: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    mlp_dim: int,
    num_classes: int = 1000,
    representation_size: int | None = None,
    norm_layer: Any = None,
) -> Shapes:
    """``torchvision.models.VisionTransformer``."""
    assert image_size % patch_size == 0
    assert hidden_dim % num_heads == 0
    tokens = (image_size // patch_size) ** 2 + 1
    found = conv("conv_proj", hidden_dim, 3, patch_size, bias=True)
    found |= {"class_token": (1, 1, hidden_dim), "encoder.pos_embedding": (1, tokens, hidden_dim)}
    for i in range(num_layers):
        name = f"encoder.layers.encoder_layer_{i}"
        found |= affine(f"{name}.ln_1", hidden_dim) | affine(f"{name}.ln_2", hidden_dim)
        found |= {f"{name}.self_attention.in_proj_weight": (3 * hidden_dim, hidden_dim)}
        found |= {f"{name}.self_attention.in_proj_bias": (3 * hidden_dim,)}
        found |= linear(f"{name}.self_attention.out_proj", hidden_dim, hidden_dim)
        found |= linear(f"{name}.mlp.0", mlp_dim, hidden_dim)
        found |= linear(f"{name}.mlp.3", hidden_dim, mlp_dim)
    found |= affine("encoder.ln", hidden_dim)
    if representation_size is None:
        return found | linear("heads.head", num_classes, hidden_dim)
    found |= linear("heads.pre_logits", representation_size, hidden_dim)
    return found | linear("heads.head", num_classes, representation_size)


# --------------------------------------------------------------------------- code for small images


def small_resnet(
    widths: Sequence[int], projected: bool, block: str, blocks: Sequence[int], num_classes: int
) -> Shapes:
    expansion = 1 if block == "BasicBlock" else 4
    found = conv("conv1", widths[0], 3, 3) | batch_norm("bn1", widths[0])
    before = widths[0]
    for stage, planes in enumerate(widths):
        for i in range(blocks[stage]):
            name, after = f"layer{stage + 1}.{i}", planes * expansion
            shapes = [(planes, before, 3), (planes, planes, 3)]
            if block == "Bottleneck":
                shapes = [(planes, before, 1), (planes, planes, 3), (after, planes, 1)]
            for j, (out, into, size) in enumerate(shapes, start=1):
                found |= conv(f"{name}.conv{j}", out, into, size)
                found |= batch_norm(f"{name}.bn{j}", out)
            if projected and ((stage > 0 and i == 0) or before != after):
                found |= conv(f"{name}.shortcut.0", after, before, 1)
                found |= batch_norm(f"{name}.shortcut.1", after)
            before = after
    return found | linear("linear", num_classes, before)


def akamaster(block: str, num_blocks: Sequence[int], num_classes: int = 10) -> Shapes:
    """``resnet.ResNet`` of akamaster/pytorch_resnet_cifar10, whose blocks default to option A."""
    return small_resnet((16, 32, 64), False, block, num_blocks, num_classes)


def kuangliu(block: str, num_blocks: Sequence[int], num_classes: int = 10) -> Shapes:
    """``models.resnet.ResNet`` of kuangliu/pytorch-cifar."""
    return small_resnet((64, 128, 256, 512), True, block, num_blocks, num_classes)


def xternalz(depth: int, num_classes: int, widen_factor: int = 1) -> Shapes:
    """``WideResNet`` of xternalz/WideResNet-pytorch."""
    assert (depth - 4) % 6 == 0
    widths = [16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
    found, before = conv("conv1", 16, 3, 3), 16
    for stage, width in enumerate(widths, start=1):
        for i in range((depth - 4) // 6):
            name = f"block{stage}.layer.{i}"
            found |= batch_norm(f"{name}.bn1", before) | conv(f"{name}.conv1", width, before, 3)
            found |= batch_norm(f"{name}.bn2", width) | conv(f"{name}.conv2", width, width, 3)
            if before != width:
                found |= conv(f"{name}.convShortcut", width, before, 1)
            before = width
    return found | batch_norm("bn1", before) | linear("fc", num_classes, before)


# -------------------------------------------------------------------------------------- few-shot


def _blocks(prefix: str, layers: int, hidden: int, channels: int) -> Shapes:
    found: Shapes = {}
    for i in range(layers):
        found |= conv(f"{prefix}.{i}.conv", hidden, hidden if i else channels, 3, bias=True)
        found |= batch_norm(f"{prefix}.{i}.normalize", hidden)
    return found


def cnn4(
    output_size: int,
    hidden_size: int = 64,
    layers: int = 4,
    channels: int = 3,
    max_pool: bool = True,
    embedding_size: int | None = None,
) -> Shapes:
    """``learn2learn.vision.models.CNN4``."""
    assert 4 // layers == 1  # or it would pool in other windows than 2 x 2
    embedding = 25 * hidden_size if embedding_size is None else embedding_size
    found = _blocks("features", layers, hidden_size, channels)
    return found | linear("classifier", output_size, embedding)


def omniglot_cnn(output_size: int = 5, hidden_size: int = 64, layers: int = 4) -> Shapes:
    """``learn2learn.vision.models.OmniglotCNN``, which holds its blocks twice."""
    found = _blocks("base", layers, hidden_size, 1) | _blocks("features.1", layers, hidden_size, 1)
    return found | linear("classifier", output_size, hidden_size)


def resnet12(avg_pool: bool = False, num_classes: int = -1) -> Shapes:
    """``resnet12`` of MetaOptNet and, with a head over averages, of rfs."""
    found, before = {}, 3
    for stage, width in enumerate((64, 160, 320, 640), start=1):
        name = f"layer{stage}.0"
        for i, into in enumerate((before, width, width), start=1):
            found |= conv(f"{name}.conv{i}", width, into, 3) | batch_norm(f"{name}.bn{i}", width)
        found |= conv(f"{name}.downsample.0", width, before, 1)
        found |= batch_norm(f"{name}.downsample.1", width)
        before = width
    return found if num_classes < 1 else found | linear("classifier", num_classes, 640)


# ---------------------------------------------------------------------------------- segmentation


def _double(name: str, before: int, after: int) -> Shapes:
    first = conv(f"{name}.double_conv.0", after, before, 3)
    second = conv(f"{name}.double_conv.3", after, after, 3)
    norms = batch_norm(f"{name}.double_conv.1", after) | batch_norm(f"{name}.double_conv.4", after)
    return first | second | norms


def pytorch_unet(n_channels: int, n_classes: int, bilinear: bool = False) -> Shapes:
    """``UNet`` of milesial/Pytorch-UNet."""
    assert not bilinear
    found = _double("inc", n_channels, 64)
    for level in range(1, 5):
        found |= _double(f"down{level}.maxpool_conv.1", 32 << level, 64 << level)
        wide = 2048 >> level
        found |= {f"up{level}.up.weight": (wide, wide // 2, 2, 2)}
        found |= {f"up{level}.up.bias": (wide // 2,)} | _double(f"up{level}.conv", wide, wide // 2)
    return found | conv("outc.conv", n_classes, 64, 1, bias=True)


def smp_unet(
    encoder_name: str,
    encoder_weights: None,
    decoder_channels: Sequence[int],
    in_channels: int,
    classes: int,
) -> Shapes:
    """``segmentation_models_pytorch.Unet``, which replaces the first convolution for channels."""
    depths = {"resnet18": ("BasicBlock", (2, 2, 2, 2)), "resnet34": ("BasicBlock", (3, 4, 6, 3))}
    depths["resnet50"] = ("Bottleneck", (3, 4, 6, 3))
    block, layers = depths[encoder_name]
    body = torchvision_resnet(block, layers)
    found = {f"encoder.{n}": x for n, x in body.items() if not n.startswith("fc.")}
    found["encoder.conv1.weight"] = (64, in_channels, 7, 7)
    expansion = 1 if block == "BasicBlock" else 4
    skips = [256 * expansion, 128 * expansion, 64 * expansion, 64, 0]
    before = 512 * expansion
    assert len(decoder_channels) == 5
    for i, (skip, width) in enumerate(zip(skips, decoder_channels, strict=True)):
        for j, into in ((1, before + skip), (2, width)):
            name = f"decoder.blocks.{i}.conv{j}"
            found |= conv(f"{name}.0", width, into, 3) | batch_norm(f"{name}.1", width)
        before = width
    return found | conv("segmentation_head.0", classes, before, 3, bias=True)


# ------------------------------------------------------------------------- what expressions name

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _named(depth: int, **fixed: Any) -> Callable[..., Shapes]:
    block = "BasicBlock" if depth < 50 else "Bottleneck"
    return lambda **given: torchvision_resnet(block, _LAYERS[depth], **fixed, **given)


def _group_norm(groups: int) -> Callable[[str, int], Shapes]:
    def layer(name: str, width: int) -> Shapes:
        assert width % groups == 0
        return affine(name, width)

    return layer


_SCOPE = types.SimpleNamespace
_BLOCKS = {"BasicBlock": "BasicBlock", "Bottleneck": "Bottleneck"}
_TORCHVISION = _SCOPE(
    models=_SCOPE(
        ResNet=torchvision_resnet,
        VisionTransformer=torchvision_vit,
        resnet=_SCOPE(**_BLOCKS),
        **{f"resnet{depth}": _named(depth) for depth in _LAYERS},
        **{f"wide_resnet{d}_2": _named(d, width_per_group=128) for d in (50, 101)},
    )
)


def made(expression: str) -> Shapes:
    """What the expression makes."""
    names = {
        "torchvision": _TORCHVISION,
        "nn": _SCOPE(GroupNorm="GroupNorm", LayerNorm="LayerNorm"),
        "partial": lambda layer, *groups, **_: _group_norm(*groups) if groups else layer,
        "resnet": _SCOPE(ResNet=akamaster, **_BLOCKS),
        "models": _SCOPE(
            resnet=_SCOPE(ResNet=kuangliu, **_BLOCKS), CNN4=cnn4, OmniglotCNN=omniglot_cnn
        ),
        "WideResNet": xternalz,
        "resnet12": resnet12,
        "UNet": pytorch_unet,
        "smp": _SCOPE(Unet=smp_unet),
    }
    found: Shapes = eval(expression, names)  # of our own code, as its users would run it
    return found
