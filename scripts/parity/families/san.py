"""SAN in PyTorch, under the names of hszhao/SAN, whose kernels need CUDA.

Footprints are unfolded from maps that are padded by reflection; channel c of the values is weighed
by channel c modulo the channels of the weights.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from scripts.parity.family import Case, Member

SIZES = {"san10": (2, 1, 2, 4, 1), "san15": (3, 2, 3, 5, 2), "san19": (3, 3, 4, 6, 3)}


def unfolded(x, size):
    """The footprint of each pixel: (batch, channels, size * size, height * width)."""
    padded = F.pad(x, (size // 2,) * 4, mode="reflect")
    return F.unfold(padded, size).reshape(*x.shape[:2], size**2, -1)


def relative_to_centre(x, other, size):
    """Each pixel of ``x`` minus the footprint of ``other`` around it."""
    return x.flatten(2).unsqueeze(2) - unfolded(other, size)


class Attention(nn.Module):
    """Pairwise or patchwise attention."""

    def __init__(self, pairwise, inputs, relation, features, size, share=8):
        super().__init__()
        self.pairwise, self.size = pairwise, size
        weights = features // share
        self.conv1 = nn.Conv2d(inputs, relation, 1)
        self.conv2 = nn.Conv2d(inputs, relation, 1)
        self.conv3 = nn.Conv2d(inputs, features, 1)
        seen = relation + 2 if pairwise else relation * (size**2 + 1)
        hidden = relation if pairwise else weights
        out = weights if pairwise else weights * size**2
        self.conv_w = nn.Sequential(
            nn.BatchNorm2d(seen),
            nn.ReLU(),
            nn.Conv2d(seen, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out, 1),
        )
        if pairwise:
            self.conv_p = nn.Conv2d(2, 2, 1)

    def weights(self, x):
        """(batch, channels, footprint, pixels)."""
        batch, _, height, width = x.shape
        queries, keys = self.conv1(x), self.conv2(x)
        if not self.pairwise:
            patches = unfolded(keys, self.size).flatten(1, 2)
            seen = torch.cat([queries.flatten(2), patches], 1).unsqueeze(2)
            return self.conv_w(seen).reshape(batch, -1, self.size**2, height * width)
        across, down = (torch.linspace(-1, 1, n, dtype=x.dtype) for n in (width, height))
        places = torch.stack([across.expand(height, width), down[:, None].expand(height, width)])
        places = self.conv_p(places[None])
        moved = relative_to_centre(places, places, self.size).expand(batch, -1, -1, -1)
        seen = torch.cat([relative_to_centre(queries, keys, self.size), moved], 1)
        return self.conv_w(seen).softmax(2)

    def forward(self, x):
        """The weighted sums of the values."""
        weights, values = self.weights(x), self.conv3(x)
        parts = unfolded(values, self.size)
        repeats = parts.shape[1] // weights.shape[1]
        return (weights.repeat(1, repeats, 1, 1) * parts).sum(2).reshape(values.shape)


class Bottleneck(nn.Module):
    """Attention and a convolution beside a shortcut."""

    def __init__(self, pairwise, width, size):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.sam = Attention(pairwise, width, width // 16, width // 4, size)
        self.bn2 = nn.BatchNorm2d(width // 4)
        self.conv = nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        """Applies the block."""
        return x + self.conv(self.bn2(self.sam(self.bn1(x).relu())).relu())


class SAN(nn.Module):
    """The network."""

    def __init__(self, kind, layers, kernels=(3, 7, 7, 7, 7), widths=None, classes=1000):
        super().__init__()
        widths = widths or (64, 256, 512, 1024, 2048)
        self.stages = len(layers)
        self.conv_in = nn.Conv2d(3, widths[0], 1, bias=False)
        self.bn_in = nn.BatchNorm2d(widths[0])
        before = widths[0]
        for i, (blocks, size, width) in enumerate(zip(layers, kernels, widths, strict=True)):
            stage = [Bottleneck(kind == "pairwise", width, size) for _ in range(blocks)]
            setattr(self, f"conv{i}", nn.Conv2d(before, width, 1, bias=False))
            setattr(self, f"layer{i}", nn.Sequential(*stage))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
            before = width
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        """The logits."""
        x = self.bn_in(self.conv_in(x)).relu()
        for i in range(self.stages):
            x = getattr(self, f"conv{i}")(F.max_pool2d(x, 2))
            x = getattr(self, f"bn{i}")(getattr(self, f"layer{i}")(x)).relu()
        return self.fc(x.mean((2, 3)))


MEMBERS = [
    Member(f"{name}_{kind}", "san", partial(SAN, kind, layers))
    for kind in ("pairwise", "patchwise")
    for name, layers in SIZES.items()
]
_SMALL = {"stage_sizes": [1, 2], "kernel_sizes": [3, 5], "widths": [32, 64], "num_classes": 5}
_WATCHED = {r"layer(\d)\.(\d)": lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}/output"}


def _case(kind, *, train):
    build = partial(SAN, kind, (1, 2), (3, 5), (32, 64), 5)
    # 21 pixels become 10 and 5, and 18 become 9 and 4: all of a footprint of 5 is mirrored once.
    return Case(f"san10_{kind}", "san", build, _SMALL, (2, 3, 21, 18), _WATCHED, train)


CASES = {
    "san_pairwise": _case("pairwise", train=False),
    "san_pairwise_train": _case("pairwise", train=True),
    "san_patchwise": _case("patchwise", train=False),
    "san_patchwise_train": _case("patchwise", train=True),
}
