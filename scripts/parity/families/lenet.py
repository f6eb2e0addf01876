"""LeNet-5 in modules of its own: of the paper, and with tanh or ReLU and a dense output layer.

Layers have vitjax's names.
"""

import copy
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.parity.family import Case, Member

# The rows of Table I of LeCun et al. 1998: the maps of C3 that read each map of S2.
TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)
# The digits of Fig. 3, each number a row of seven pixels.
DIGITS = (
    (62, 0, 28, 54, 99, 99, 99, 99, 54, 28, 0, 0),
    (12, 28, 60, 12, 12, 12, 12, 12, 12, 63, 0, 0),
    (62, 0, 62, 99, 67, 6, 28, 48, 96, 127, 0, 0),
    (127, 3, 6, 12, 30, 3, 3, 3, 99, 62, 0, 0),
    (62, 0, 0, 51, 51, 115, 99, 99, 103, 63, 3, 3),
    (62, 0, 127, 96, 96, 60, 30, 3, 99, 62, 0, 0),
    (30, 48, 96, 96, 126, 115, 99, 99, 115, 62, 0, 0),
    (127, 3, 3, 6, 12, 12, 24, 24, 24, 24, 0, 0),
    (62, 99, 99, 99, 62, 99, 99, 99, 99, 62, 0, 0),
    (62, 103, 99, 99, 103, 63, 3, 3, 6, 60, 0, 0),
)


def _squash(x: torch.Tensor) -> torch.Tensor:
    return 1.7159 * torch.tanh(2 * x / 3)


class _Subsampling(nn.Module):
    """Four pixels are added, multiplied and shifted."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(maps))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        rows, columns = (n // 2 for n in x.shape[2:])
        total = sum(corner[:, :, :rows, :columns] for corner in corners)
        return _squash(total * self.weight[:, None, None] + self.bias[:, None, None])


class _Partial(nn.Module):
    """C3, one map after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(60, 5, 5))
        self.bias = nn.Parameter(torch.zeros(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps, start = [], 0
        for column in range(16):
            read = [row for row in range(6) if TABLE[row][column] == "X"]
            kernel = self.weight[start : start + len(read)][None]
            maps.append(F.conv2d(x[:, read], kernel, self.bias[column : column + 1]))
            start += len(read)
        assert start == len(self.weight)
        return torch.cat(maps, 1)


class Paper(nn.Module):
    """The network of the paper."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stage1_conv = nn.Conv2d(channels, 6, 5)
        self.stage1_pool = _Subsampling(6)
        self.stage2_conv = _Partial()
        self.stage2_pool = _Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the outputs of the RBF units."""
        x = self.stage1_pool(_squash(self.stage1_conv(x)))
        x = self.stage2_pool(_squash(self.stage2_conv(x)))
        x = _squash(self.f6(_squash(self.c5(x)).mean((2, 3))))
        bits = (np.array(DIGITS)[:, :, None] >> np.arange(6, -1, -1)) & 1
        codes = torch.from_numpy(2.0 * bits.reshape(10, 84) - 1)
        return -(torch.cdist(x, codes.to(x), compute_mode="donot_use_mm_for_euclid_dist") ** 2)


class Today(nn.Module):
    """The network without what is peculiar to the paper."""

    def __init__(self, activation: nn.Module, pooling: nn.Module, channels: int = 1) -> None:
        super().__init__()
        self.stage1_conv = nn.Conv2d(channels, 6, 5)
        self.stage2_conv = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.head = nn.Linear(84, 10)
        self.activation, self.s2, self.s4 = activation, pooling, copy.copy(pooling)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        x = self.s2(self.activation(self.stage1_conv(x)))
        x = self.s4(self.activation(self.stage2_conv(x)))
        x = self.activation(self.c5(x)).mean((2, 3))
        return self.head(self.activation(self.f6(x)))


MEMBERS = [
    Member("lenet5", "", partial(Today, nn.Tanh(), nn.AvgPool2d(2))),
    Member("lenet5_paper", "", Paper),
]
CASES = {
    "lenet5": Case(
        "lenet5", "", partial(Today, nn.Tanh(), nn.AvgPool2d(2)), {}, (2, 1, 32, 37), {"s4": "last"}
    ),
    "lenet5_relu": Case(
        "lenet5",
        "",
        partial(Today, nn.ReLU(), nn.MaxPool2d(2), 3),
        {"activation": "relu", "pooling": "max"},
        (2, 3, 32, 32),
        {"s4": "last"},
    ),
    "lenet5_paper": Case(
        "lenet5_paper",
        "",
        Paper,
        {},
        (2, 1, 37, 32),
        {r"stage2_pool": "last"},
    ),
}
