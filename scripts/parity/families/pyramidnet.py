"""PyramidNet in PyTorch, under the names of dyhan0920/PyramidNet-PyTorch, which needs CUDA."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from scripts.parity.family import Case, Member


class Block(nn.Module):
    """Convolutions of the given (channels, kernel, stride), beside a padded shortcut."""

    def __init__(self, inputs, plan):
        super().__init__()
        self.depth, self.stride = len(plan), max(stride for *_, stride in plan)
        for i, (width, kernel, stride) in enumerate(plan, start=1):
            conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False)
            setattr(self, f"bn{i}", nn.BatchNorm2d(inputs))
            setattr(self, f"conv{i}", conv)
            inputs = width
        setattr(self, f"bn{self.depth + 1}", nn.BatchNorm2d(inputs))

    def forward(self, x):
        """Applies the block."""
        y = self.conv1(self.bn1(x))
        for i in range(2, self.depth + 1):
            y = getattr(self, f"conv{i}")(getattr(self, f"bn{i}")(y).relu())
        y = getattr(self, f"bn{self.depth + 1}")(y)
        if self.stride > 1:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        missing = y.shape[1] - x.shape[1]
        return y + torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1)


class PyramidNet(nn.Module):
    """The network; a stem of 16 channels is that for CIFAR, one of 64 that for ImageNet."""

    def __init__(self, sizes, alpha, bottleneck, width, classes):
        super().__init__()
        self.large = width == 64
        kernel = 7 if self.large else 3
        self.conv1 = nn.Conv2d(3, width, kernel, 2 if self.large else 1, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        total, inputs = width, width
        self.stages = len(sizes)
        for stage, blocks in enumerate(sizes, start=1):
            made = []
            for i in range(blocks):
                total += alpha / sum(sizes)
                planes, stride = round(total), 2 if stage > 1 and i == 0 else 1
                if bottleneck:
                    plan = [(planes, 1, 1), (planes, 3, stride), (4 * planes, 1, 1)]
                else:
                    plan = [(planes, 3, stride), (planes, 3, 1)]
                made.append(Block(inputs, plan))
                inputs = plan[-1][0]
            setattr(self, f"layer{stage}", nn.Sequential(*made))
        self.bn_final = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        """The logits."""
        x = self.bn1(self.conv1(x))
        if self.large:
            x = F.max_pool2d(x.relu(), 3, 2, 1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(self.bn_final(x).relu().mean((2, 3)))


_FORMAT = "pyramidnet-pytorch"
_NETWORKS = {
    "pyramidnet110_a48": ((18, 18, 18), 48, False, 16, 10),
    "pyramidnet110_a270": ((18, 18, 18), 270, False, 16, 10),
    "pyramidnet272_a200": ((30, 30, 30), 200, True, 16, 10),
    "pyramidnet101_a360": ((3, 4, 23, 3), 360, True, 64, 1000),
    "pyramidnet200_a300": ((3, 24, 36, 3), 300, True, 64, 1000),
}
# Of the others the numbers of parameters: to trace networks in which no two blocks have one width
# takes long.
_FILES = ("pyramidnet110_a48", "pyramidnet101_a360")
MEMBERS = [
    Member(name, _FORMAT if name in _FILES else "", partial(PyramidNet, *arguments))
    for name, arguments in _NETWORKS.items()
]
_WATCHED = {r"layer(\d)\.(\d)": lambda m: f"stage{m[1]}_block{int(m[2]) + 1}/output"}
CASES = {
    # Odd maps, of which a pooling keeps the last incomplete window; 3.5 channels more per block,
    # so that numbers between two widths occur.
    "pyramidnet_basic": Case(
        "pyramidnet110_a48",
        _FORMAT,
        partial(PyramidNet, (2, 2), 14, False, 16, 5),
        {"stage_sizes": [2, 2], "alpha": 14, "num_classes": 5},
        (2, 3, 33, 35),
        _WATCHED,
    ),
    "pyramidnet_bottleneck": Case(
        "pyramidnet200_a300",
        _FORMAT,
        partial(PyramidNet, (1, 2), 10, True, 64, 5),
        {"stage_sizes": [1, 2], "alpha": 10, "num_classes": 5},
        (2, 3, 34, 41),
        _WATCHED,
    ),
}
