"""U-Net in PyTorch, written from its paper and that of attention gates, under vitjax's names."""

import torch
import torch.nn.functional as F
from torch import nn

from scripts.parity.few_shot_networks import Watched


def middle(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The middle of (batch, channels, height, width)."""
    top, left = (x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2
    return x[:, :, top : top + rows, left : left + columns]


def doubled(x: torch.Tensor, valid: bool) -> torch.Tensor:
    """Bilinear resizing, less the border where ``valid``."""
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[:, :, 1:-1, 1:-1] if valid else x


class Block(nn.Module):
    """Convolution, normalisation, ReLU, twice."""

    def __init__(self, before: int, after: int, norm: str, groups: int, padding: int):
        super().__init__()
        for i, width in ((1, before), (2, after)):
            conv = nn.Conv2d(width, after, 3, padding=padding, bias=norm == "none")
            setattr(self, f"conv{i}", conv)
            if norm == "batch":
                setattr(self, f"norm{i}", nn.BatchNorm2d(after))
            else:
                group = nn.GroupNorm(groups, after) if norm == "group" else nn.Identity()
                setattr(self, f"norm{i}", group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        for i in (1, 2):
            x = F.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x)))
        return x


class Gate(nn.Module):
    """arXiv:1804.03999, Eq. 1 and 2, on the coarser map's grid."""

    def __init__(self, skip: int, gate: int):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, skip // 2, 2, stride=2, bias=False)
        self.gate_conv = nn.Conv2d(gate, skip // 2, 1)
        self.map_conv = nn.Conv2d(skip // 2, 1, 1)

    def forward(self, skip: torch.Tensor, gate: torch.Tensor, valid: bool) -> torch.Tensor:
        """Scales ``skip``."""
        skip = middle(skip, 2 * gate.shape[2], 2 * gate.shape[3])
        both = F.relu(self.skip_conv(skip) + self.gate_conv(gate))
        scale = doubled(torch.sigmoid(self.map_conv(both)), valid)
        return middle(skip, *scale.shape[2:]) * scale


class Resized(nn.Module):
    """Bilinear doubling and a convolution."""

    def __init__(self, before: int, after: int, valid: bool):
        super().__init__()
        self.valid = valid
        self.conv = nn.Conv2d(before, after, 3, padding=0 if valid else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Doubles ``x``."""
        return self.conv(doubled(x, self.valid))


class UNet(Watched):
    """arXiv:1505.04597, Fig. 1."""

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        classes: int,
        *,
        valid: bool = False,
        norm: str = "none",
        groups: int = 1,
        up: str = "transpose",
        attention: bool = False,
    ):
        super().__init__()
        self.depth, self.valid, self.attention = len(widths) - 1, valid, attention
        options = (norm, groups, 0 if valid else 1)
        before = channels
        for level, width in enumerate(widths[:-1], start=1):
            setattr(self, f"down{level}", Block(before, width, *options))
            before = width
        self.bottom = Block(before, widths[-1], *options)
        for level in range(self.depth, 0, -1):
            fine, coarse = widths[level - 1], widths[level]
            step = (
                nn.ConvTranspose2d(coarse, fine, 2, stride=2)
                if up == "transpose"
                else Resized(coarse, fine, valid)
            )
            setattr(self, f"up{level}", step)
            if attention and level > 1:
                setattr(self, f"gate{level}", Gate(fine, coarse))
            setattr(self, f"merge{level}", Block(2 * fine, fine, *options))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, height, width, classes) of (batch, channels, height, width)."""
        height, width = x.shape[2:]
        total = [0 if self.valid else -side % 2**self.depth for side in (height, width)]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in total)
        x = F.pad(x, (left, right, top, bottom), mode="reflect")
        skips = []
        for level in range(1, self.depth + 1):
            x = self.see(f"down{level}/output", getattr(self, f"down{level}")(x))
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.see("bottom/output", self.bottom(x))
        for level in range(self.depth, 0, -1):
            skip = skips.pop()
            if self.attention and level > 1:
                skip = getattr(self, f"gate{level}")(skip, x, self.valid)
            x = getattr(self, f"up{level}")(x)
            sides = [min(a, b) for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
            x = torch.cat([middle(skip, *sides), middle(x, *sides)], dim=1)
            x = self.see(f"merge{level}/output", getattr(self, f"merge{level}")(x))
        x = self.head(x)
        return (x if self.valid else middle(x, height, width)).permute(0, 2, 3, 1)
