"""PyTorch networks for small images, written from their papers under the names that files have.

`SmallResNet` bears the names of akamaster/pytorch_resnet_cifar10 and kuangliu/pytorch-cifar,
`WideResNet` those of xternalz/WideResNet-pytorch.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


def _conv(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, stride, size // 2, bias=False)


class SmallBlock(nn.Module):
    """A block with the shortcut of option A or B (arXiv:1512.03385, Sec. 3.3 and 4.2)."""

    def __init__(self, before: int, width: int, stride: int, option: str, bottleneck: bool):
        super().__init__()
        after = 4 * width if bottleneck else width
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        channels = (before, *[width] * (len(sizes) - 1), after)
        self.branch = len(sizes)
        for i, size in enumerate(sizes):
            # The stride is that of the first 3 x 3.
            step = stride if i == int(bottleneck) else 1
            setattr(self, f"conv{i + 1}", _conv(channels[i], channels[i + 1], size, step))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        self.new, self.stride, self.shortcut = after - before, stride, nn.Sequential()
        self.changes = stride != 1 or before != after
        if option == "B" and self.changes:
            conv = _conv(before, after, 1, stride)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to (batch, channels, height, width)."""
        y = x
        for i in range(1, self.branch + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.branch else y
        if len(self.shortcut):
            x = self.shortcut(x)
        elif self.changes:
            before = self.new // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, before, self.new - before))
        return F.relu(x + y)


class SmallResNet(nn.Module):
    """Stem of one 3 x 3, stages of blocks, mean over the image, linear layer."""

    def __init__(
        self,
        stem: int,
        width: int,
        blocks: tuple[int, ...],
        classes: int,
        option: str,
        bottleneck: bool = False,
    ):
        super().__init__()
        self.conv1, self.bn1 = _conv(3, stem), nn.BatchNorm2d(stem)
        self.stages, before = len(blocks), stem
        for stage, count in enumerate(blocks):
            layers = []
            for block in range(count):
                stride, inner = 2 if stage and not block else 1, width * 2**stage
                layers.append(SmallBlock(before, inner, stride, option, bottleneck))
                before = 4 * inner if bottleneck else inner
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(before, classes)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.linear(x.mean(dim=(2, 3)))


class WideBlock(nn.Module):
    """A pre-activation basic block (arXiv:1605.07146, Fig. 1(c), after arXiv:1603.05027)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), _conv(before, after, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), _conv(after, after)
        self.projects = before != after
        if self.projects:
            self.convShortcut = _conv(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to (batch, channels, height, width)."""
        first = F.relu(self.bn1(x))
        x = self.convShortcut(first) if self.projects else x
        return x + self.conv2(F.relu(self.bn2(self.conv1(first))))


class WideResNet(nn.Module):
    """Stem of one 3 x 3, three stages of pre-activation blocks (arXiv:1605.07146, Table 1)."""

    def __init__(self, stem: int, width: int, blocks: int, classes: int):
        super().__init__()
        self.conv1, before = _conv(3, stem), stem
        for stage in range(3):
            layers = []
            for block in range(blocks):
                after, stride = width * 2**stage, 2 if stage and not block else 1
                layers.append(WideBlock(before, after, stride))
                before = after
            inner = OrderedDict(layer=nn.Sequential(*layers))
            setattr(self, f"block{stage + 1}", nn.Sequential(inner))
        self.bn1, self.relu = nn.BatchNorm2d(before), nn.ReLU()
        self.fc = nn.Linear(before, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.relu(self.bn1(x)).mean(dim=(2, 3)))
