"""PyTorch networks of few-shot learning, written from their papers and published code's settings.

Modules of `Conv4` and `MLP` bear vitjax's names, the others those of the code they are named for.
"""

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "softplus": F.softplus, "gelu": F.gelu}


class Watched(nn.Module):
    """A module that keeps activations as NumPy arrays, the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, np.ndarray] = {}

    def see(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Keeps ``x``, and returns it."""
        self.seen[name] = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).detach().numpy()
        return x


def _norm(kind: str, width: int, epsilon: float, groups: int, images: bool) -> nn.Module:
    if kind == "batch":
        return (nn.BatchNorm2d if images else nn.BatchNorm1d)(width, eps=epsilon)
    if kind == "none":
        return nn.Identity()
    return nn.GroupNorm(groups if kind == "group" else 1, width, eps=epsilon)


def _same(size: int) -> tuple[int, int]:
    """TensorFlow's "SAME" for a kernel of 3 and a stride of 2: zeros before and behind."""
    outputs = (size + 1) // 2
    total = 2 * (outputs - 1) + 3 - size
    return total // 2, total - total // 2


class Conv4(Watched):
    """arXiv:1703.03400, Sec. 5.2, and with ``context`` arXiv:1810.03642, Sec. 3."""

    def __init__(
        self,
        channels: int,
        filters: int,
        classes: int,
        features: int,
        *,
        downsample: str = "pool",
        activation: str = "relu",
        pooling: str = "flatten",
        norm: str = "batch",
        groups: int = 1,
        epsilon: float = 1e-3,
        context: int = 0,
    ):
        super().__init__()
        self.strided, self.pooling = downsample == "stride", pooling
        self.activation = ACTIVATIONS[activation]
        self.filters = filters
        for i in range(1, 5):
            conv = nn.Conv2d(
                channels if i == 1 else filters,
                filters,
                3,
                stride=2 if self.strided else 1,
                padding=0 if self.strided else 1,
            )
            setattr(self, f"conv{i}", conv)
            setattr(self, f"norm{i}", _norm(norm, filters, epsilon, groups, images=True))
        self.head = nn.Linear(features, classes)
        self.conditioned = context > 0
        if self.conditioned:
            self.context = nn.Parameter(torch.zeros(context))
            self.film = nn.Linear(context, 2 * filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        for i in range(1, 5):
            if self.strided:
                x = F.pad(x, (*_same(x.shape[3]), *_same(x.shape[2])))
            x = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x))
            in_context = self.conditioned and i == 3
            if in_context:
                # CAVIA pools, conditions, activates; MAML activates and pools.
                x = F.max_pool2d(x, 2)
                scale, shift = self.film(self.context).split(self.filters)
                x = scale[:, None, None] * x + shift[:, None, None]
            x = self.activation(x)
            if not self.strided and not in_context:
                x = F.max_pool2d(x, 2)
            self.see(f"block{i}", x)
        x = x.permute(0, 2, 3, 1)
        x = x.mean(dim=(1, 2)) if self.pooling == "mean" else x.flatten(1)
        return self.head(self.see("pooled", x))


class MamlConv4(Watched):
    """arXiv:1703.03400, Sec. 5.2, over the dict of TensorFlow arrays that cbfinn/maml's code has.

    A parameter's name has a bar where theirs has a slash, which PyTorch does not allow.
    """

    def __init__(self, channels: int, filters: int, classes: int, features: int, strided: bool):
        super().__init__()
        shapes: dict[str, tuple[int, ...]]
        shapes = {f"conv{i}": (3, 3, filters, filters) for i in range(1, 5)}
        shapes |= {"conv1": (3, 3, channels, filters), "w5": (features, classes), "b5": (classes,)}
        for i in range(1, 5):
            shapes |= {f"b{i}": (filters,), f"{i - 1}|beta": (filters,)}
        self.weights = nn.ParameterDict(
            {k: nn.Parameter(torch.zeros(v)) for k, v in shapes.items()}
        )
        self.strided, self.means = strided, features == filters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width), normalised by the batch's statistics."""
        weights, stride = self.weights, 2 if self.strided else 1
        for i in range(1, 5):
            kernel = weights[f"conv{i}"].permute(3, 2, 0, 1)
            if self.strided:
                x = F.pad(x, (*_same(x.shape[3]), *_same(x.shape[2])))
            padding = 0 if self.strided else 1
            x = F.conv2d(x, kernel, weights[f"b{i}"], stride=stride, padding=padding)
            shift = weights[f"{i - 1}|beta"]
            x = F.relu(F.batch_norm(x, None, None, bias=shift, training=True, eps=1e-3))
            x = self.see(f"block{i}", x if self.strided else F.max_pool2d(x, 2))
        x = x.permute(0, 2, 3, 1)
        x = x.mean(dim=(1, 2)) if self.means else x.flatten(1)
        return self.see("pooled", x) @ weights["w5"] + weights["b5"]


class NamedBlock(nn.Module):
    """A block of learn2learn's network: ``normalize`` and ``conv``, ReLU, pooling or stride."""

    def __init__(self, before: int, after: int, strided: bool):
        super().__init__()
        self.normalize = nn.BatchNorm2d(after)
        self.conv = nn.Conv2d(before, after, 3, stride=2 if strided else 1, padding=1)
        self.strided = strided

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        x = F.relu(self.normalize(self.conv(x)))
        return x if self.strided else F.max_pool2d(x, 2)


class Learn2LearnConv4(Watched):
    """learn2learn's ``CNN4``, or with strides its ``OmniglotCNN``, which holds its blocks twice."""

    def __init__(self, channels: int, filters: int, classes: int, features: int, strided: bool):
        super().__init__()
        widths = (channels, filters, filters, filters)
        blocks = nn.Sequential(*(NamedBlock(width, filters, strided) for width in widths))
        if strided:
            self.base = blocks
        self.features = nn.Sequential(nn.Identity(), blocks) if strided else blocks
        self.classifier = nn.Linear(features, classes)
        self.strided = strided

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        for i, block in enumerate(self.base if self.strided else self.features, start=1):
            x = self.see(f"block{i}", block(x))
        return self.classifier(x.mean(dim=(2, 3)) if self.strided else x.flatten(1))


class MLP(Watched):
    """arXiv:1703.03400, Sec. 5.1 and 5.2, and with ``context`` arXiv:1810.03642, Sec. 3."""

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        *,
        activation: str = "relu",
        norm: str = "none",
        groups: int = 1,
        epsilon: float = 1e-3,
        context: int = 0,
    ):
        super().__init__()
        self.activation, self.layers = ACTIVATIONS[activation], len(hidden)
        before = inputs + context
        for i, width in enumerate(hidden, start=1):
            setattr(self, f"dense{i}", nn.Linear(before, width))
            setattr(self, f"norm{i}", _norm(norm, width, epsilon, groups, images=False))
            before = width
        self.head = nn.Linear(before, outputs)
        self.context = nn.Parameter(torch.zeros(context)) if context else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of (batch, inputs) or (batch, channels, height, width)."""
        x = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)
        if self.context is not None:
            x = torch.cat([x, self.context.expand(len(x), -1)], dim=1)
        for i in range(1, self.layers + 1):
            x = self.activation(getattr(self, f"norm{i}")(getattr(self, f"dense{i}")(x)))
            self.see(f"hidden{i}", x)
        return self.head(x)


class Block12(nn.Module):
    """A block of `ResNet12`."""

    def __init__(self, before: int, after: int):
        super().__init__()
        conv: Any = functools.partial(nn.Conv2d, bias=False)
        self.conv1, self.bn1 = conv(before, after, 3, padding=1), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = conv(after, after, 3, padding=1), nn.BatchNorm2d(after)
        self.conv3, self.bn3 = conv(after, after, 3, padding=1), nn.BatchNorm2d(after)
        self.downsample = nn.Sequential(conv(before, after, 1), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to (batch, channels, height, width)."""
        y = F.leaky_relu(self.bn1(self.conv1(x)), 0.1)
        y = F.leaky_relu(self.bn2(self.conv2(y)), 0.1)
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        return F.max_pool2d(F.leaky_relu(y, 0.1), 2)


class ResNet12(nn.Module):
    """arXiv:1904.03758, Sec. 4.1, under the names of kjunelee/MetaOptNet and WangYueFt/rfs."""

    def __init__(self, widths: tuple[int, ...], classes: int, pixels: int = 0):
        super().__init__()
        for i, (before, after) in enumerate(zip((3, *widths), widths, strict=False), start=1):
            setattr(self, f"layer{i}", nn.Sequential(Block12(before, after)))
        self.classifier = nn.Linear(widths[-1] * max(pixels, 1), classes)
        self.flattens = pixels > 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, 3, height, width)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.classifier(x.flatten(1) if self.flattens else x.mean(dim=(2, 3)))
