"""Write reference outputs of small U-Nets for `tests/models/`, from PyTorch.

    python -m scripts.parity.make_unet_fixture tests/models/fixtures

Wants PyTorch alone (the fixtures in the repository: 2.13.0). See
`make_few_shot_fixtures` for the files.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.parity import convert
from scripts.parity.unet_networks import UNet
from scripts.parity.write import write

WIDTHS = (4, 6, 8)
GATED: dict[str, Any] = {"up": "resize", "attention": True}
# File, channels and size of the images, vitjax's fields, and whether the batch's statistics count.
CASES: tuple[tuple[str, int, tuple[int, int], dict[str, Any], bool], ...] = (
    ("unet_valid", 1, (44, 48), {"padding": "valid"}, False),
    ("unet_batch", 3, (17, 22), {"norm": "batch"}, True),
    ("unet_gated", 2, (16, 19), {"norm": "group", "norm_groups": 2, **GATED}, False),
    ("unet_valid_gated", 1, (56, 56), {"padding": "valid", "norm": "batch", **GATED}, False),
)


def weights(model: nn.Module) -> convert.Arrays:
    """Parameters and batch statistics; a transposed convolution's kernel has its inputs first."""
    found = convert.plain(model)
    for path, module in model.named_modules():
        if isinstance(module, nn.ConvTranspose2d):
            kernel = module.weight.detach().numpy().transpose(2, 3, 0, 1)
            found[f"params/{path}/kernel"] = kernel
    return found


def seen(model: Any) -> convert.Arrays:
    """The dict that a `Watched` model fills with intermediates."""
    found: convert.Arrays = model.seen
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    base: dict[str, Any] = {"depth": 2, "widths": WIDTHS, "num_classes": 3}
    for name, channels, shape, fields, train in CASES:
        options = {k: v for k, v in fields.items() if k not in ("padding", "norm_groups")}
        groups = fields.get("norm_groups", 1)
        valid = fields.get("padding") == "valid"
        model = UNet(channels, WIDTHS, 3, valid=valid, groups=groups, **options)
        spec: dict[str, Any] = {"name": "UNet", "fields": {**base, **fields}}
        if train:
            spec["train"] = True
        write(folder / f"{name}.npz", model, spec, (2, channels, *shape), weights, seen)


if __name__ == "__main__":
    main()
