"""PyTorch networks, written from their papers, for which timm has no counterpart."""

import torch
import torch.nn.functional as F
from torch import nn


class CifarBlock(nn.Module):
    """A basic block with the shortcut of option A or B (arXiv:1512.03385, Sec. 3.3 and 4.2)."""

    def __init__(self, before: int, after: int, stride: int, option: str):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.new_channels, self.stride = after - before, stride
        self.downsample = None
        if option == "B" and before != after:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to (batch, channels, height, width)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.new_channels:
            half = self.new_channels // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, half, self.new_channels - half))
        return F.relu(x + y)


class WideBlock(nn.Module):
    """A pre-activation basic block (arXiv:1605.07146, Fig. 1(c), after arXiv:1603.05027)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.downsample = None
        if before != after or stride != 1:
            self.downsample = nn.ModuleDict(
                {"conv": nn.Conv2d(before, after, 1, stride, bias=False)}
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to (batch, channels, height, width)."""
        first = F.relu(self.norm1(x))
        if self.downsample is not None:
            x = self.downsample["conv"](first)
        return x + self.conv2(F.relu(self.norm2(self.conv1(first))))


class SmallImageNet(nn.Module):
    """Stem of one 3 x 3, stages of blocks, mean over the image, linear layer."""

    def __init__(self, stem: int, width: int, blocks: int, classes: int, kind: str):
        super().__init__()
        self.wide = kind == "wide"
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.Identity() if self.wide else nn.BatchNorm2d(stem)
        before = stem
        for stage in range(3):
            layers: list[nn.Module] = []
            for block in range(blocks):
                after, stride = width * 2**stage, 2 if stage and not block else 1
                layers.append(
                    WideBlock(before, after, stride)
                    if self.wide
                    else CifarBlock(before, after, stride, kind)
                )
                before = after
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        if self.wide:
            self.norm = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of (batch, channels, height, width)."""
        x = self.conv1(x) if self.wide else F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.wide:
            x = F.relu(self.norm(x))
        return self.fc(x.mean(dim=(2, 3)))
