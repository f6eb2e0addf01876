"""U-Net and its family in PyTorch, written from their papers.

`UNet`, `UNetPlusPlus` and the way up of `ResNetUNet` bear vitjax's names, `NamedUNet` those of
milesial/Pytorch-UNet.
"""

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


class UNetPlusPlus(Watched):
    """arXiv:1807.10165, Eq. 1, with deep supervision: the mean of all heads (Sec. 3.2)."""

    def __init__(self, channels: int, widths: tuple[int, ...], classes: int, norm: str = "batch"):
        super().__init__()
        self.depth = len(widths) - 1
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else channels
            setattr(self, f"node{level}_0", Block(before, width, norm, 1, 1))
            for column in range(1, self.depth - level + 1):
                up = nn.ConvTranspose2d(widths[level + 1], width, 2, stride=2)
                setattr(self, f"up{level}_{column}", up)
                node = Block((column + 1) * width, width, norm, 1, 1)
                setattr(self, f"node{level}_{column}", node)
        for column in range(1, self.depth + 1):
            setattr(self, f"head{column}", nn.Conv2d(widths[0], classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, height, width, classes) of images whose sides 2^depth divides."""
        nodes: dict[tuple[int, int], torch.Tensor] = {}
        for column in range(self.depth + 1):
            for level in range(self.depth + 1 - column):
                if column:
                    up = getattr(self, f"up{level}_{column}")(nodes[level + 1, column - 1])
                    seen = torch.cat([*(nodes[level, j] for j in range(column)), up], dim=1)
                else:
                    seen = F.max_pool2d(nodes[level - 1, 0], 2) if level else x
                name = f"node{level}_{column}"
                nodes[level, column] = self.see(f"{name}/output", getattr(self, name)(seen))
        logits = [getattr(self, f"head{j}")(nodes[0, j]) for j in range(1, self.depth + 1)]
        return torch.stack(logits).mean(dim=0).permute(0, 2, 3, 1)


class ResNetUNet(Watched):
    """The way up of a U-Net on a residual network with torchvision's names."""

    def __init__(self, encoder: nn.Module, widths: tuple[int, ...], classes: int):
        super().__init__()
        encoder.fc = nn.Identity()
        self.encoder, self.steps = encoder, len(widths)
        stages = [getattr(encoder, f"layer{stage}") for stage in (4, 3, 2, 1)]
        norms = [[m for m in x.modules() if isinstance(m, nn.BatchNorm2d)] for x in stages]
        coarse, *skips = [found[-1].num_features for found in norms]
        skips += [encoder.conv1.out_channels, 0]
        for step, (width, skip) in enumerate(zip(widths, skips, strict=True), start=1):
            setattr(self, f"up{step}", nn.ConvTranspose2d(coarse, width, 2, stride=2))
            setattr(self, f"merge{step}", Block(skip + width, width, "batch", 1, 1))
            coarse = width
        self.head = nn.Conv2d(coarse, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, height, width, classes) of images whose sides 32 divides."""
        encoder = self.encoder
        x = F.relu(encoder.bn1(encoder.conv1(x)))
        maps = [x]
        x = encoder.maxpool(x)
        for stage in range(1, 5):
            x = self.see(f"encoder/stage{stage}", getattr(encoder, f"layer{stage}")(x))
            maps.append(x)
        maps.pop()
        for step in range(1, self.steps + 1):
            x = getattr(self, f"up{step}")(x)
            x = torch.cat([maps.pop(), x], dim=1) if maps else x
            x = self.see(f"merge{step}/output", getattr(self, f"merge{step}")(x))
        return self.head(x).permute(0, 2, 3, 1)


class NamedPair(nn.Module):
    """Convolution, batch normalisation, ReLU, twice, as ``double_conv``."""

    def __init__(self, before: int, after: int, bias: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        for width in (before, after):
            conv = nn.Conv2d(width, after, 3, padding=1, bias=bias)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies both."""
        return self.double_conv(x)


class NamedUNet(Watched):
    """arXiv:1505.04597, Fig. 1, padded, under the names of milesial/Pytorch-UNet.

    With ``bias`` as its files of before 2022 are.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], classes: int, bias: bool = False):
        super().__init__()
        self.depth = len(widths) - 1
        self.inc = NamedPair(channels, widths[0], bias)
        for level in range(1, self.depth + 1):
            down, up = nn.Module(), nn.Module()
            pair = NamedPair(widths[level - 1], widths[level], bias)
            down.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), pair)
            setattr(self, f"down{level}", down)
            coarse, fine = widths[self.depth + 1 - level], widths[self.depth - level]
            up.up = nn.ConvTranspose2d(coarse, fine, 2, stride=2)
            up.conv = NamedPair(2 * fine, fine, bias)
            setattr(self, f"up{level}", up)
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, height, width, classes) of images whose sides 2^depth divides."""
        x = self.see("down1/output", self.inc(x))
        maps = [x]
        for level in range(1, self.depth + 1):
            x = getattr(self, f"down{level}").maxpool_conv(x)
            name = "bottom" if level == self.depth else f"down{level + 1}"
            maps.append(self.see(f"{name}/output", x))
        maps.pop()
        for step in range(1, self.depth + 1):
            up = getattr(self, f"up{step}")
            x = up.conv(torch.cat([maps.pop(), up.up(x)], dim=1))
            self.see(f"merge{self.depth + 1 - step}/output", x)
        return self.outc.conv(x).permute(0, 2, 3, 1)
